"""Questions that need an earlier turn of the conversation."""

from __future__ import annotations

import functools
import random
from typing import Any

from training.draw import Draw
from training.items import Item, Message, assistant, question, user
from training.names import PRODUCTS, city, first_name, made_up, word
from training.scenes import Scene
from training.tasks.arithmetic import (
    answer_text,
    arithmetic_thinking,
    draw_pair,
    operand,
    pair_key,
    sum_asked,
    work,
)
from training.tasks.extraction import extract
from training.tasks.facts import RELATIONS, fact
from training.tasks.pictures import PictureTasks, thought_of, unique_kinds
from training.tasks.talk import talk
from training.tasks.words import count, repeat, rewrite

TELL_NAME = ["{My name is|I am|I'm|Call me|This is} <x>.", "{People|Friends} call me <x>."]
ASK_NAME = [
    "{What is|What's|Do you know|Tell me|Say|Do you remember} my name?",
    "{Who am I|What am I called|How do you call me}?",
    "{What|Which} name did I {give|tell|say}{ you|}?",
]
TELL_CITY = ["I {live|work|was born} in <x>.", "{My home is|I come from|I am from} <x>."]
ASK_CITY = [
    "{Where do I live|Where is my home|Where am I from|Which city is mine}?",
    "{What|Which} {city|place|town} did I {mention|name|tell you|talk about}?",
]
TELL_PET = ["{I have a|My pet is a} <pet> {called|named} <x>.", "My <pet> is {called|named} <x>."]
ASK_PET = [
    "{What is|What's|Do you know|Tell me} the name of my <pet>?",
    "{How|What} is my <pet> called?",
]
TELL_ITEM = [
    "{Remember|Keep in mind|Memorize|Note} {the word|this word|the code|this}: <x>{.|}",
    "The {secret |}{word|code} is <x>. {Remember it|Keep it in mind}.",
]
ASK_ITEM = [
    "{What was|What is|Tell me|Give me|Do you remember} the {word|code|secret word}?",
    "{What|Which word|Which code} {did I tell you|should you remember|did I ask you to remember}?",
]
ASK_FIRST = [
    "{What was|Repeat|Tell me} my {first|earlier|previous|last} {question|message}{?|}",
    "What did I {ask|say|write}{ before| first| just now|}?",
]
ASK_AGAIN = [
    "{Say|Tell me|Repeat} that {again|once more|one more time}{.|}",
    "{Can you|Could you|Please} {repeat|say again} {that|your answer|what you said}{?|}",
    "{What did you|What was it you} {say|answer|just say}?",
]
FIRST_COLOUR = [
    "What {colour|color} is the <kind>?",
    "{Tell me|Name|Say} the {colour|color} of the <kind>.",
    "Which {colour|color} does the <kind> have?",
]
ADD_TO_THAT = {
    "+": ["{Add|Now add} <b>{ to that| to it|}.", "{And|Now} plus <b>?", "{What is that|That} plus <b>?"],
    "-": [
        "{Subtract|Now subtract|Take away} <b>{ from that| from it|}.",
        "{And|Now} minus <b>?",
        "{What is that|That} minus <b>?",
    ],
}
AND_OF = ["{And|What about|How about|And what about|Now} {of |for |}<x>?", "And <x>?"]
AND_THE = ["{And|What about|How about|And what about|Now} the <kind>?", "And the <kind>?"]
PETS = ("dog", "cat", "bird", "horse", "fish", "rabbit")


def reference(draw: Draw) -> Item:
    """One of the kinds of reference, with unrelated turns between where that makes sense."""
    makers = (_told, _told, _asked_before, _say_again, _fact_follow_up)
    return draw.rng.choice(makers)(draw)


def introduction(draw: Draw) -> Item:
    """The turn in which something is told, by itself."""
    tell, reply, _, _, _ = _introduce(draw)
    return question("turns", tell, reply, "I note it.")


def _introduce(draw: Draw) -> tuple[str, str, str, list[str], dict[str, Any]]:
    """What is told, the reply to it, the answer later, and how it is asked for."""
    rng = draw.rng
    kind = rng.choice(("name", "name", "city", "pet", "item", "item"))
    if kind == "name":
        x = draw.until("told", lambda: first_name(rng))
        tell = draw.phrase("tell_name", TELL_NAME, x=x)
        return tell, f"Nice to meet you, {x}.", f"Your name is {x}.", ASK_NAME, {}
    if kind == "city":
        x = draw.until("told", lambda: city(rng))
        tell = draw.phrase("tell_city", TELL_CITY, x=x)
        return tell, f"{x} sounds like a nice place.", f"You told me about {x}.", ASK_CITY, {}
    if kind == "pet":
        pet = rng.choice(PETS)
        x = draw.until("told", lambda: first_name(rng))
        tell = draw.phrase("tell_pet", TELL_PET, x=x, pet=pet)
        reply = f"{x} is a nice name for a {pet}."
        return tell, reply, f"Your {pet} is called {x}.", ASK_PET, {"pet": pet}
    x = draw.until("told", lambda: _token(draw))
    tell = draw.phrase("tell_item", TELL_ITEM, x=x)
    return tell, f"I will remember {x}.", f"It was {x}.", ASK_ITEM, {}


def _token(draw: Draw) -> str:
    rng = draw.rng
    choices = (made_up(rng), word(rng), str(rng.randint(10, 9999)), rng.choice(PRODUCTS))
    return rng.choice(choices)


def _fillers(draw: Draw) -> list[Message]:
    messages: list[Message] = []
    for _ in range(draw.rng.choice((0, 0, 1, 1, 2, 3))):
        if draw.chance(0.5):
            filler = repeat(draw)
        else:
            a, b = draw_pair(draw, "+")
            filler = question("", f"What is {a} + {b}?", answer_text(a, "+", b), "")
        messages += [*filler.messages, assistant(filler.reply)]
    return messages


def _told(draw: Draw) -> Item:
    tell, reply, later, asks, slots = _introduce(draw)
    name = {id(ASK_NAME): "name", id(ASK_CITY): "city", id(ASK_PET): "pet"}.get(id(asks), "item")
    before, between = _fillers(draw) if draw.chance(0.3) else [], _fillers(draw)
    text = draw.phrase(f"ask_{name}", asks, **slots)
    messages = [*before, user(tell), assistant(reply), *between, user(text)]
    return _turns(messages, later, "I look at the earlier turns.")


def _any_question(draw: Draw) -> Item:
    """A text-only turn of any kind."""
    makers = (repeat, introduction, fact, arithmetic_thinking, extract, talk, count, rewrite)
    return draw.rng.choice(makers)(draw)


def _asked_before(draw: Draw) -> Item:
    first = _any_question(draw)
    asked = first.messages[0]["content"]
    text = draw.phrase("ask_first", ASK_FIRST)
    messages = [*first.messages, assistant(first.reply), user(text)]
    return _turns(messages, f'You wrote: "{asked}"', "I look at the message before.")


def _say_again(draw: Draw) -> Item:
    first = _any_question(draw)
    before = _fillers(draw) if draw.chance(0.3) else []
    text = draw.phrase("ask_again", ASK_AGAIN)
    messages = [*before, *first.messages, assistant(first.reply), user(text)]
    return _turns(messages, first.reply, "I repeat my last answer.")


def compute_on(draw: Draw) -> Item:
    """A sum or difference with the result of the turn before."""
    op = draw.rng.choice(("+", "-"))
    while True:
        a, b = draw_pair(draw, "+")
        subtotal = a + b
        pair = draw.until("pair", functools.partial(_with_operand, draw.rng, subtotal), pair_key)
        if subtotal <= 999 and (op == "+" or pair[1] <= subtotal):
            break
    first = sum_asked(draw, a, b)
    text = draw.phrase(f"compute_on_{op}", ADD_TO_THAT[op], b=pair[1])
    messages = [user(first), assistant(answer_text(a, "+", b)), user(text)]
    return Item(
        task="turns_sum",
        messages=messages,
        reply=answer_text(subtotal, op, pair[1]),
        thought=f"{subtotal} {op} {pair[1]}: {work(subtotal, op, pair[1])}",
    )


def _with_operand(rng: random.Random, first: int) -> tuple[int, int]:
    return first, operand(rng, 2)


def _fact_follow_up(draw: Draw) -> Item:
    relation = draw.rng.choice(RELATIONS[:5])
    (x1, y1), (x2, y2) = draw.rng.sample(list(relation.table.items()), 2)
    first = draw.phrase(f"fact_{relation.name}", relation.asks, x=x1)
    text = draw.phrase("and_of", AND_OF, x=x2)
    messages = [user(first), assistant(relation.answer.format(x=x1, y=y1)), user(text)]
    return _turns(messages, relation.answer.format(x=x2, y=y2), f"From my table: {x2}, {y2}.")


def picture_follow_up(draw: Draw, pictures: PictureTasks) -> Item:
    """A second question about the picture of the first turn."""

    def accept(scene: Scene) -> bool:
        return len(unique_kinds(scene)) >= 2

    scene = pictures.scene(draw, accept, at_least=2)
    first, second = draw.rng.sample(unique_kinds(scene), 2)
    asked = draw.phrase("first_colour", FIRST_COLOUR, wrap=False, kind=first.kind)
    text = draw.phrase("and_the", AND_THE, kind=second.kind)
    return Item(
        task="turns",
        messages=[
            user(asked, num_images=1),
            assistant(f"The {first.kind} is {first.colour}."),
            user(text),
        ],
        reply=f"The {second.kind} is {second.colour}.",
        thought=thought_of(scene),
        media=(scene,),
    )


def _turns(messages: list[Message], reply: str, thought: str) -> Item:
    return Item(task="turns", messages=messages, reply=reply, thought=thought)
