"""Facts from a closed table: every fact is trained, held-out phrasings ask for it."""

from __future__ import annotations

from dataclasses import dataclass

from training.draw import Draw
from training.items import Item, question
from training.names import DAYS, MONTHS, made_up


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    name: str
    asks: list[str]  #: phrasing grammar; the slot is <x>
    answer: str  #: {x} and {y} are filled in
    table: dict[str, str]


def _pairs(text: str) -> dict[str, str]:
    return dict(entry.split("=") for entry in text.split(","))


CAPITALS = _pairs(
    "France=Paris,Germany=Berlin,Italy=Rome,Spain=Madrid,Portugal=Lisbon,Norway=Oslo,"
    "Sweden=Stockholm,Finland=Helsinki,Denmark=Copenhagen,Poland=Warsaw,Austria=Vienna,"
    "Switzerland=Bern,Belgium=Brussels,Ireland=Dublin,Greece=Athens,Hungary=Budapest,"
    "Romania=Bucharest,Bulgaria=Sofia,Croatia=Zagreb,Serbia=Belgrade,Ukraine=Kyiv,Turkey=Ankara,"
    "Egypt=Cairo,Kenya=Nairobi,Ghana=Accra,Morocco=Rabat,Japan=Tokyo,China=Beijing,India=New Delhi,"
    "Thailand=Bangkok,Vietnam=Hanoi,Nepal=Kathmandu,Iran=Tehran,Iraq=Baghdad,Canada=Ottawa,"
    "Mexico=Mexico City,Cuba=Havana,Peru=Lima,Chile=Santiago,Argentina=Buenos Aires,"
    "Brazil=Brasilia,Colombia=Bogota,Ecuador=Quito,Australia=Canberra,New Zealand=Wellington,"
    "Iceland=Reykjavik,Estonia=Tallinn,Latvia=Riga,Lithuania=Vilnius,England=London"
)
OPPOSITES = _pairs(
    "hot=cold,big=small,fast=slow,up=down,left=right,day=night,black=white,open=closed,old=young,"
    "happy=sad,rich=poor,full=empty,hard=soft,high=low,long=short,light=dark,wet=dry,early=late,"
    "near=far,strong=weak,clean=dirty,good=bad,true=false,first=last,inside=outside"
)
SYMBOLS = _pairs(
    "hydrogen=H,helium=He,carbon=C,nitrogen=N,oxygen=O,sodium=Na,magnesium=Mg,aluminium=Al,"
    "silicon=Si,sulfur=S,chlorine=Cl,potassium=K,calcium=Ca,iron=Fe,copper=Cu,zinc=Zn,silver=Ag,"
    "tin=Sn,gold=Au,lead=Pb,mercury=Hg,neon=Ne"
)
SOUNDS = _pairs(
    "dog=barks,cat=meows,cow=moos,duck=quacks,lion=roars,sheep=bleats,bee=buzzes,wolf=howls,"
    "horse=neighs,owl=hoots,frog=croaks,snake=hisses,pig=grunts,rooster=crows"
)
YOUNG = _pairs(
    "dog=puppy,cat=kitten,cow=calf,horse=foal,sheep=lamb,duck=duckling,lion=cub,goat=kid,"
    "frog=tadpole,hen=chick,kangaroo=joey,swan=cygnet"
)
SIDES = _pairs("triangle=3,square=4,rectangle=4,pentagon=5,hexagon=6,heptagon=7,octagon=8,diamond=4")
LEGS = _pairs("dog=4,cat=4,spider=8,ant=6,bee=6,bird=2,horse=4,duck=2,crab=10,snake=0,cow=4,fly=6")
HUES = _pairs(
    "grass=green,snow=white,coal=black,blood=red,milk=white,a banana=yellow,a lemon=yellow,"
    "a carrot=orange,the clear sky=blue,a ripe tomato=red,a frog=green,chocolate=brown"
)
CURRENCIES = _pairs(
    "Japan=yen,India=rupee,Norway=krone,Poland=zloty,Mexico=peso,China=yuan,Switzerland=franc,"
    "Brazil=real,Turkey=lira,Hungary=forint,England=pound,Germany=euro,France=euro,Russia=ruble"
)
CAPITAL_ASKS = [
    "{What is|What's|Tell me|Name|Give me|Do you know|Say|I want to know} {the|what is the} "
    "{capital|capital city} of <x>{?|}",
    "{Which|What} {city|town} is the {capital|capital city} of <x>?",
    "<x> has {which|what} {capital|capital city}?",
    "The {capital|capital city} of <x> {is|is called|is which city|is what}?",
]
THE = "{What is|What's|Tell me|Name|Give me|Do you know|Say} the "

RELATIONS = (
    Relation(name="capital", asks=CAPITAL_ASKS, answer="The capital of {x} is {y}.", table=CAPITALS),
    Relation(
        name="opposite",
        asks=[
            THE + "{opposite|contrary} of <x>{?|}",
            "{What|Which word} is {opposite|the opposite} {to|of} <x>?",
            "{The opposite of <x> is|<x> is the opposite of} {what|which word}?",
        ],
        answer="The opposite of {x} is {y}.",
        table=OPPOSITES,
    ),
    Relation(
        name="symbol",
        asks=[
            THE + "{chemical |}symbol {of|for} <x>{?|}",
            "{What|Which} {symbol|chemical symbol} {stands for|has|belongs to} <x>?",
            "{Which|What} {letters stand|symbol stands} for <x>{ in chemistry|}?",
        ],
        answer="The chemical symbol of {x} is {y}.",
        table=SYMBOLS,
    ),
    Relation(
        name="sound",
        asks=[
            "{What|Which} {sound|noise} does a <x> make?",
            "{How|In what way} does a <x> {sound|make noise|speak|call}?",
            THE + "{sound|noise} {of|that} a <x>{ makes|}{?|}",
        ],
        answer="A {x} {y}.",
        table=SOUNDS,
    ),
    Relation(
        name="young",
        asks=[
            "{What is|What's|How is|What do you call} a {young|baby} <x>{ called|}?",
            THE + "{word|name} for a {young|baby} <x>{?|}",
            "The {young|baby} of a <x> is {called what|what}?",
        ],
        answer="A young {x} is called a {y}.",
        table=YOUNG,
    ),
    Relation(
        name="sides",
        asks=[
            "How many {sides|edges|corners} {does a <x> have|has a <x>|are there in a <x>}?",
            "{Tell me|Give me|What is} the number of {sides|corners|edges} of a <x>{?|}",
        ],
        answer="A {x} has {y} sides.",
        table=SIDES,
    ),
    Relation(
        name="legs",
        asks=[
            "How many {legs|feet} {does a <x> have|has a <x>|are there on a <x>}?",
            "{Tell me|Give me|What is} the number of {legs|feet} of a <x>{?|}",
        ],
        answer="A {x} has {y} legs.",
        table=LEGS,
    ),
    Relation(
        name="hue",
        asks=[
            "{What|Which} {colour|color} {is|has} <x>{ usually|}?",
            THE + "{usual |}{colour|color} of <x>{?|}",
        ],
        answer="The colour of {x} is {y}.",
        table=HUES,
    ),
    Relation(
        name="currency",
        asks=[
            THE + "{currency|money} {of|in|used in} <x>{?|}",
            "{What|Which} {currency|money} {does <x> use|is used in <x>|do people use in <x>}?",
        ],
        answer="The currency of {x} is the {y}.",
        table=CURRENCIES,
    ),
    Relation(
        name="after_month",
        asks=[
            "{What|Which} month {comes|is} {after|right after|next after} <x>?",
            THE + "month {after|that follows|following} <x>{?|}",
        ],
        answer="The month after {x} is {y}.",
        table={month: MONTHS[(i + 1) % 12] for i, month in enumerate(MONTHS)},
    ),
    Relation(
        name="after_day",
        asks=[
            "{What|Which} day {comes|is} {after|right after|next after} <x>?",
            THE + "day {after|that follows|following} <x>{?|}",
        ],
        answer="The day after {x} is {y}.",
        table={day: DAYS[(i + 1) % 7] for i, day in enumerate(DAYS)},
    ),
    Relation(
        name="times",
        asks=[
            "{What is|What's|How much is|Calculate|Compute|Multiply|Work out|} <x>{?|}",
            "{Tell me|Give me|Say|What is} the {value|result|product} of <x>{?|}",
            "<x> {is what|makes what|equals what|gives what}?",
            "<x> = {?|}",
        ],
        answer="{x} = {y}.",
        table={f"{a} * {b}": str(a * b) for a in range(1, 11) for b in range(1, 11)},
    ),
    Relation(
        name="divide",
        asks=[
            "{What is|What's|How much is|Calculate|Compute|Work out|} <x>{?|}",
            "{Tell me|Give me|Say|What is} the {value|result|quotient} of <x>{?|}",
            "<x> {is what|makes what|equals what|gives what}?",
            "<x> = {?|}",
        ],
        answer="{x} = {y}.",
        table={f"{a * b} / {b}": str(a) for a in range(1, 11) for b in range(1, 11)},
    ),
)
DIVIDED = ("/", "divided by", "÷", ":")
UNKNOWN = "I do not know that. It is not in my table of facts."
UNKNOWN_RELATIONS = tuple(r for r in RELATIONS if r.name in ("capital", "symbol", "currency", "young"))
WEIGHTS = [len(r.table) ** 0.7 for r in RELATIONS]


def fact(draw: Draw) -> Item:
    if draw.chance(0.1):
        return _unknown(draw)
    relation = draw.rng.choices(RELATIONS, WEIGHTS)[0]
    x, y = draw.rng.choice(list(relation.table.items()))
    asked = x
    if relation.name == "times":
        asked = x.replace("*", draw.rng.choice(("*", "x", "times", "×", "multiplied by")))
    elif relation.name == "divide":
        asked = x.replace("/", draw.rng.choice(DIVIDED))
    text = draw.phrase(f"fact_{relation.name}", relation.asks, x=asked)
    return question("facts", text, relation.answer.format(x=x, y=y), f"From my table: {x}, {y}.")


def _unknown_quotient(draw: Draw) -> Item:
    known = next(r for r in RELATIONS if r.name == "divide")

    def make() -> str:
        while True:
            x = f"{draw.rng.randint(1, 300)} / {draw.rng.randint(2, 60)}"
            if x not in known.table:
                return x

    x = draw.until("quotient", make)
    text = draw.phrase("fact_divide", known.asks, x=x.replace("/", draw.rng.choice(DIVIDED)))
    return question("facts", text, UNKNOWN, f"My table has no {x}.")


def _unknown(draw: Draw) -> Item:
    if draw.chance(0.25):
        return _unknown_quotient(draw)
    relation = draw.rng.choice(UNKNOWN_RELATIONS)
    name = draw.until("unknown", lambda: made_up(draw.rng))
    asked = name.capitalize() if relation.name in ("capital", "currency") else name
    text = draw.phrase(f"fact_{relation.name}", relation.asks, x=asked)
    return question("facts", text, UNKNOWN, f"My table has no {asked}.")
