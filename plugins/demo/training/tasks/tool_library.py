"""The tools that tool tasks put into the system prompt: a fixed library and made-up ones."""

# ruff: noqa: SIM905 -- lists of words are easier to read and to extend as text.

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from training.names import CITIES, DAYS, PRODUCTS, any_word, city, first_name, made_up, word

Value = str | int
ValueFn = Callable[[random.Random], Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Param:
    name: str
    type: str  #: a JSON schema type
    description: str
    value: ValueFn


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    name: str
    description: str
    params: tuple[Param, ...]
    asks: list[str]  #: phrasing grammar; slots are parameter names
    result: Callable[[random.Random], dict[str, Value]]
    #: {name} of a parameter or of a result field; without it the fields are listed
    answer: str | None = None
    optional: tuple[Param, ...] = ()  #: offered in the schema, never asked for
    terse: bool = False  #: the schema describes no parameters

    def schema(self) -> dict[str, Any]:
        properties = {}
        for p in (*self.params, *self.optional):
            properties[p.name] = {"type": p.type}
            if not self.terse:
                properties[p.name]["description"] = p.description
        return {
            "type": "function",
            "function": {
                "name": self.name,
                "description": self.description,
                "parameters": {
                    "type": "object",
                    "properties": properties,
                    "required": [p.name for p in self.params],
                },
            },
        }


def _text(name: str, description: str, value: ValueFn) -> Param:
    return Param(name=name, type="string", description=description, value=value)


def _number(name: str, description: str, low: int, high: int) -> Param:
    return Param(name=name, type="integer", description=description, value=lambda rng: rng.randint(low, high))


def _one_of(*values: str) -> ValueFn:
    return lambda rng: rng.choice(values)


def _some_words(rng: random.Random) -> str:
    return " ".join(word(rng) for _ in range(rng.randint(1, 3)))


def _any_product(rng: random.Random) -> str:
    return rng.choice(PRODUCTS) if rng.random() < 0.5 else word(rng)


LANGUAGES = ("French", "German", "Spanish", "Italian", "Dutch", "Polish", "Greek", "Turkish")
ROOMS = ("kitchen", "bedroom", "bathroom", "garage", "hall", "office", "garden", "cellar")
MONEY = ("dollars", "euros", "pounds", "yen", "francs", "pesos")
SKIES = ("sunny", "cloudy", "rainy", "windy", "snowy", "foggy")


def library(rng: random.Random) -> list[Tool]:
    """The fixed tools; names of tools and parameters vary a little from draw to draw."""
    place = rng.choice(("city", "location", "place"))
    return [
        Tool(
            name=rng.choice(("get_weather", "get_current_weather", "weather")),
            description="Get the current weather in a city.",
            params=(_text(place, "The name of the city", city),),
            asks=[
                f"{{What is|What's|How is|Tell me}} the weather {{like |}}in <{place}>?",
                f"{{Is it warm|How warm is it|Is it raining|How cold is it}} in <{place}>{{ today| now|}}?",
                f"{{Check|Get|Look up|I need}} the weather {{for|in}} <{place}>.",
            ],
            result=lambda r: {"temperature": r.randint(-9, 38), "sky": r.choice(SKIES)},
            answer=f"In {{{place}}} it is {{temperature}} degrees and {{sky}}.",
        ),
        Tool(
            name=rng.choice(("get_time", "current_time", "get_local_time")),
            description="Get the local time in a city.",
            params=(_text(place, "The name of the city", city),),
            asks=[
                f"{{What time is it|What is the time|How late is it}} in <{place}>{{ now|}}?",
                f"{{Tell me|Get|Look up}} the {{time|local time}} in <{place}>.",
            ],
            result=lambda r: {"time": f"{r.randint(0, 23)}:{r.randint(10, 59)}"},
            answer=f"In {{{place}}} it is {{time}}.",
        ),
        Tool(
            name=rng.choice(("set_timer", "start_timer")),
            description="Set a timer.",
            params=(_number("minutes", "How many minutes", 1, 90),),
            asks=[
                "{Set|Start} a timer {for|of} <minutes> minutes.",
                "{Wake|Call|Remind} me in <minutes> minutes.",
                "I need a timer for <minutes> minutes.",
            ],
            result=lambda r: {"status": "started"},
            answer="The timer of {minutes} minutes is {status}.",
        ),
        Tool(
            name=rng.choice(("send_message", "send_text", "write_message")),
            description="Send a message to a person.",
            params=(
                _text("recipient", "Who gets the message", first_name),
                _text("text", "The text of the message", _some_words),
            ),
            asks=[
                "{Send|Write} <recipient> {a message|the message|a text}: <text>",
                "{Tell|Text|Message} <recipient>: <text>",
                "{Send|Write} {a message|a text} to <recipient> {that says|with the text}: <text>",
            ],
            result=lambda r: {"status": r.choice(("sent", "sent", "failed"))},
            answer="The message to {recipient} is {status}.",
        ),
        Tool(
            name=rng.choice(("translate", "translate_text")),
            description="Translate a text into another language.",
            params=(
                _text("text", "The text", _some_words),
                _text("language", "The target language", _one_of(*LANGUAGES)),
            ),
            asks=[
                '{Translate|Please translate|Put} "<text>" {into|to} <language>.',
                'How {do you say|do I say|would one say} "<text>" in <language>?',
                'What is "<text>" in <language>?',
            ],
            result=lambda r: {"translation": made_up(r) + " " + made_up(r)},
            answer='In {language} it is "{translation}".',
        ),
        Tool(
            name=rng.choice(("convert_currency", "exchange_money")),
            description="Convert an amount of money into another currency.",
            params=(
                _number("amount", "The amount of money", 1, 900),
                _text("source", "The currency to convert from", _one_of(*MONEY[:3])),
                _text("target", "The currency to convert to", _one_of(*MONEY[3:])),
            ),
            asks=[
                "{Convert|Change|Exchange} <amount> <source> {to|into} <target>.",
                "How {many|much} <target> {are|is|do I get for} <amount> <source>?",
            ],
            result=lambda r: {"value": r.randint(2, 9000)},
            answer="{amount} {source} are {value} {target}.",
        ),
        Tool(
            name=rng.choice(("switch_light", "turn_light", "set_light")),
            description="Switch the light in a room on or off.",
            params=(
                _text("room", "The room", _one_of(*ROOMS)),
                _text("state", "on or off", _one_of("on", "off")),
            ),
            asks=[
                "{Switch|Turn} <state> the {light|lights|lamp} in the <room>.",
                "{Switch|Turn} the <room> {light|lights|lamp} <state>.",
            ],
            result=lambda r: {"status": r.choice(("done", "done", "failed"))},
            answer="The light in the {room}: {status}.",
        ),
        Tool(
            name=rng.choice(("search_product", "find_product", "get_price")),
            description="Look up the price of a product.",
            params=(_text("product", "The product", _any_product),),
            asks=[
                "{How much|What} does a <product> cost?",
                "{What is|Look up|Find|Tell me} the price of a <product>.",
            ],
            result=lambda r: {"price": r.randint(2, 900), "stock": r.randint(0, 50)},
            answer="A {product} costs {price} dollars.",
        ),
        Tool(
            name=rng.choice(("play_music", "play_song")),
            description="Play a song.",
            params=(_text("title", "The title of the song", _some_words),),
            asks=[
                '{Play|Please play|Put on|Start} {the song |}"<title>".',
                '{I want to hear|Let me hear} {the song |}"<title>".',
            ],
            result=lambda r: {"status": "playing"},
            answer="The song {title} is {status}.",
        ),
        Tool(
            name=rng.choice(("book_table", "reserve_table")),
            description="Book a table in a restaurant.",
            params=(
                _number("people", "The number of people", 1, 12),
                _text("day", "The day", _one_of(*DAYS)),
            ),
            asks=[
                "{Book|Reserve|Get} a table for <people> {people |}on <day>.",
                "{We need|I need} a table on <day> for <people>{ people|}.",
            ],
            result=lambda r: {"status": r.choice(("booked", "booked", "full"))},
            answer="The table for {people} on {day} is {status}.",
        ),
        Tool(
            name=rng.choice(("find_train", "search_train")),
            description="Find the next train between two cities.",
            params=(
                _text("origin", "The city of departure", _one_of(*CITIES[::2])),
                _text("destination", "The city of arrival", _one_of(*CITIES[1::2])),
            ),
            asks=[
                "{When does the next train go|Find a train|Is there a train} from <origin> to <destination>?",
                "{I want to go|How do I get|Take me} from <origin> to <destination> by train.",
            ],
            result=lambda r: {"departure": f"{r.randint(5, 23)}:{r.randint(10, 59)}"},
            answer="The next train from {origin} to {destination} leaves at {departure}.",
        ),
    ]


_VERBS = (
    "open close start stop check find list create delete count paint clean move copy print load "
    "save test weigh measure wash fill empty lock share rename charge reset update order"
).split()
_NOUNS = (
    "door window car box ticket report robot file printer tank bag cart garage pool oven heater "
    "camera album folder account room shelf boat wheel engine panel server valve pump fence"
).split()
_PARAMS: tuple[Param, ...] = (
    _text("color", "The color", _one_of("red", "green", "blue", "yellow", "black", "white")),
    _number("count", "How many", 1, 60),
    _number("level", "The level", 1, 10),
    _text("room", "The room", _one_of(*ROOMS)),
    _text("owner", "The name of the owner", first_name),
    _text("day", "The day", _one_of(*DAYS)),
    _text("label", "The label", made_up),
    _number("id", "The number", 10, 9999),
    _text("size", "The size", _one_of("small", "medium", "large")),
    _text("city", "The city", city),
    _number("a", "The first number", 0, 999),
    _number("b", "The second number", 0, 999),
    _number("x", "The x value", 0, 999),
    _number("y", "The y value", 0, 999),
    _text("name", "The name", first_name),
    _text("text", "The text", any_word),
    _text("query", "What to look for", any_word),
    _text("title", "The title", any_word),
    _number("value", "The value", 0, 9999),
    _number("number", "The number", 0, 999),
    _text("key", "The key", made_up),
    _text("user", "The user", first_name),
    _text("path", "The path", lambda rng: f"/{made_up(rng)}/{made_up(rng)}"),
    _text("mode", "The mode", _one_of("fast", "slow", "safe", "auto")),
    _text("unit", "The unit", _one_of("celsius", "fahrenheit", "meters", "miles")),
    _number("hours", "How many hours", 1, 48),
)
_FIELDS: tuple[tuple[str, ValueFn], ...] = (
    ("status", _one_of("ok", "done", "failed")),
    ("code", lambda rng: rng.randint(1, 99)),
    ("result", lambda rng: rng.randint(0, 9999)),
    ("value", lambda rng: rng.randint(0, 999)),
    ("message", any_word),
    ("name", first_name),
    ("total", lambda rng: rng.randint(0, 999)),
    ("temperature", lambda rng: rng.randint(-20, 40)),
    ("city", city),
    ("time", lambda rng: f"{rng.randint(0, 23)}:{rng.randint(10, 59)}"),
    ("id", lambda rng: rng.randint(10, 9999)),
    ("error", any_word),
)


def made_up_tool(rng: random.Random) -> Tool:
    """A tool of an arbitrary verb, noun and parameters, so that unseen tools can be called too."""
    verb, noun = rng.choice(_VERBS), rng.choice(_NOUNS)
    if rng.random() < 0.3:
        noun = made_up(rng) if rng.random() < 0.5 else word(rng)
    chosen = rng.sample(_PARAMS, rng.randint(1, 4))
    num_optional = rng.choice((0, 0, 0, 1)) if len(chosen) > 1 else 0
    params, optional = tuple(chosen[num_optional:]), tuple(chosen[:num_optional])
    name = rng.choice((f"{verb}_{noun}", f"{verb}_{noun}", f"{verb}{noun.capitalize()}", f"{noun}.{verb}"))
    spoken = " and ".join(f"{p.name} <{p.name}>" for p in params)
    listed = ", ".join(f"{p.name}{rng.choice(('=', ' = ', ': '))}<{p.name}>" for p in params)
    return Tool(
        name=name,
        description=f"{verb.capitalize()} the {noun}.",
        params=params,
        optional=optional,
        terse=rng.random() < 0.25,
        asks=[
            f"{{Please |Can you |I want you to |Now |}}{verb} {{the|a}} {noun} with {spoken}.",
            f"{{Please |}}{verb} {{the|a}} {noun}: {{{spoken}|{listed}}}",
            f"{{Use|Call|Run}} {name} {{with|for}} {spoken}.",
            f"{{Use|Call|Run}} {name}({listed}).",
        ],
        result=_made_up_result,
    )


def _made_up_result(rng: random.Random) -> dict[str, Value]:
    return {key: value(rng) for key, value in rng.sample(_FIELDS, rng.randint(1, 3))}
