"""Extracting the fields of a record to JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from training.draw import Draw
from training.items import Item, join_words, question
from training.names import (
    DAYS,
    EVENTS,
    JOBS,
    MONTHS,
    PLACES,
    PRODUCTS,
    city,
    full_name,
    made_up,
)

Record = dict[str, Any]  #: values are text and whole numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordKind:
    name: str
    make: Callable[[Draw], Record]
    texts: list[str]  #: ways to say the record; slots are field names


def _person(draw: Draw) -> Record:
    rng = draw.rng
    return {
        "name": full_name(rng),
        "age": rng.randint(18, 90),
        "city": city(rng),
        "job": rng.choice(JOBS),
    }


def _order(draw: Draw) -> Record:
    rng = draw.rng
    return {
        "customer": full_name(rng),
        "product": rng.choice(PRODUCTS) if draw.chance(0.8) else made_up(rng),
        "quantity": rng.randint(2, 40),
        "price": rng.randint(3, 990),
    }


def _event(draw: Draw) -> Record:
    rng = draw.rng
    return {
        "event": rng.choice(EVENTS),
        "day": rng.choice(DAYS),
        "date": f"{rng.choice(MONTHS)} {rng.randint(1, 28)}",
        "time": f"{rng.randint(8, 22)}:{rng.choice(('00', '15', '30', '45'))}",
        "place": rng.choice(PLACES),
    }


def _contact(draw: Draw) -> Record:
    rng = draw.rng
    name = full_name(rng)
    host = made_up(rng)
    return {
        "name": name,
        "email": f"{name.split()[0].lower()}@{host}.com",
        "phone": f"{rng.randint(100, 999)}-{rng.randint(1000, 9999)}",
        "company": made_up(rng).capitalize(),
    }


KINDS = (
    RecordKind(
        name="person",
        make=_person,
        texts=[
            "<name> is <age> years old, lives in <city> and works as a <job>.",
            "<name>, a <job> from <city>, is <age>.",
            "In <city> lives <name>, who is <age> and {works as|is} a <job>.",
            "My name is <name>. I am <age> and I am a <job> in <city>.",
            "The <job> <name> (<age>) {comes from|lives in} <city>.",
            "Meet <name>: <age> years old, <job>, {home in|based in} <city>.",
        ],
    ),
    RecordKind(
        name="order",
        make=_order,
        texts=[
            "<customer> {bought|ordered} <quantity> <product>s for <price> dollars.",
            "{Order|New order} from <customer>: <quantity> <product>s, <price> dollars{ in all|}.",
            "For <price> dollars <customer> {gets|buys|orders} <quantity> <product>s.",
            "<quantity> <product>s were sold to <customer> {at a price of|for} <price> dollars.",
        ],
    ),
    RecordKind(
        name="event",
        make=_event,
        texts=[
            "The <event> {is|takes place|starts} on <day>, <date>, at <time> in <place>.",
            "On <day>, <date>, there is a <event> at <time> in <place>.",
            "{Come|You are invited} to the <event> in <place> on <day>, <date>, at <time>.",
            "At <time> on <day>, <date>, the <event> {begins|starts} in <place>.",
            "{Next|The} <event>: <day>, <date>, <time>, <place>.",
        ],
    ),
    RecordKind(
        name="contact",
        make=_contact,
        texts=[
            "{Write to|Contact|Reach} <name> of <company> at <email> or call <phone>.",
            "<name> works for <company>. {Email|Mail}: <email>, phone: <phone>.",
            "<name>, <company>. {E-mail|Mail|Write to|Address}: <email>. {Phone|Call|Number}: <phone>.",
            "<company> has <name>. {Mail address|Mail to|Reach at}: <email>, {phone|number|call}: <phone>.",
            "Name: <name>, {company|firm}: <company>, {email|mail|address}: <email>, phone: <phone>.",
            "Call <phone> and ask for <name> at <company>, or {write|send a mail} to <email>.",
        ],
    ),
)
ASK = [
    "{Extract|Give me|Return|List|Get|Find|Pull out} {the |}<fields> {as|in|in the form of} {JSON|"
    "a JSON object|json}{.|:} <text>",
    "{Extract|Give me|Return|Find} {the |}<fields> from {this text|the text|this sentence|"
    "the following} {as|in} {JSON|json}{.|:} <text>",
    "<text> {Extract|Give me|Return|What are} {the |}<fields> {as|in} {JSON|json}{.|}",
    "<text> {Write|Return|Answer with} a JSON object with {the |the fields |}<fields>{.|}",
]


def extract(draw: Draw) -> Item:
    kind = draw.rng.choice(KINDS)
    record = draw.until(f"record_{kind.name}", lambda: kind.make(draw))
    sentence = draw.phrase(f"record_{kind.name}", kind.texts, wrap=False, **record)
    fields = draw.rng.sample(list(record), draw.rng.randint(1, len(record)))
    if draw.chance(0.4):
        fields = list(record)
    text = draw.phrase("extract", ASK, fields=join_words(fields), text=sentence)
    reply = json.dumps({name: record[name] for name in fields}, ensure_ascii=False)
    return question("extraction", text, reply, f"I copy {join_words(fields)}.")
