"""Word lists and made-up names that the tasks share."""

# ruff: noqa: SIM905 -- lists of words are easier to read and to extend as text.

from __future__ import annotations

import random

FIRST_NAMES = (
    "Anna Ben Carla David Elena Felix Grace Hugo Ida Jonas Karin Leo Maria Nils Olga Paul Quinn "
    "Rosa Sam Tina Umar Vera Will Xenia Yusuf Zora Alice Bruno Clara Diego Emma Frank Gita Hans "
    "Iris Jack Kate Lars Mona Noah Omar Petra Ravi Sofia Tom Uma Victor Wendy Yara Zane"
).split()
LAST_NAMES = (
    "Adler Baker Costa Diaz Evans Fischer Garcia Hansen Ito Jensen Kim Lopez Moreau Novak Olsen "
    "Park Quist Rossi Silva Tanaka Unger Vogel Weber Young Zhang Brown Clark Davis Green Hall"
).split()
CITIES = (
    "Oslo Rome Paris Berlin Madrid Lisbon Vienna Prague Dublin London Athens Cairo Tokyo Delhi "
    "Lima Quito Boston Chicago Denver Seattle Toronto Sydney Lagos Nairobi Seoul Hanoi Zurich "
    "Geneva Milan Turin Munich Hamburg Lyon Porto Seville Krakow Riga Tallinn Helsinki Bergen"
).split()
JOBS = (
    "baker teacher nurse doctor pilot farmer painter driver cook lawyer singer writer dentist "
    "plumber gardener engineer tailor judge sailor carpenter"
).split()
PRODUCTS = (
    "lamp chair table book phone clock shirt jacket bottle pencil bicycle camera mirror basket "
    "kettle blanket guitar hammer ladder wallet backpack umbrella notebook keyboard"
).split()
EVENTS = (
    "concert meeting lecture wedding dinner picnic workshop exhibition festival race party "
    "reading market conference film debate"
).split()
PLACES = (
    "the park,the library,the town hall,the museum,the old school,the harbour,the station,"
    "the theatre,the garden,the stadium,the church,the hotel"
).split(",")
MONTHS = ("January February March April May June July August September October November December").split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
COMMON_WORDS = (
    "apple arrow autumn baby ball banana bank bear bell bird boat bone book bottle box branch "
    "bread bridge brother butter button cake camel candle carpet castle cat chair cheese cherry "
    "child circle city clock cloud coat coffee corner cotton cow crown cup curtain dance day deer "
    "desk dog door dream dress drum duck eagle ear earth egg engine evening eye family farm "
    "feather field finger fire fish flag flower forest fork fox frog fruit garden gate ghost gift "
    "glass goat gold goose grape grass hammer hand hat heart hill honey horse house ice ink iron "
    "island jacket jar jelly juice jungle key king kitchen kite knife ladder lake lamp leaf lemon "
    "letter lion lock magnet mango map market milk mirror monkey moon morning mother mountain "
    "mouse music nail needle nest night north nose nut ocean olive onion orange oven owl page "
    "paint paper peach pear pen pencil pepper piano pig pillow pilot pipe planet plate pocket "
    "potato queen quiet rabbit radio rain ribbon rice ring river road robot rock roof room rope "
    "rose sail salt sand school sea seed shadow sheep ship shirt shoe silk silver sister sky snow "
    "soap sock song soup spoon spring star stone storm street sugar summer sun table tea tent "
    "thunder tiger time tomato tower town train tree truck turtle uncle valley village violin "
    "voice wagon wall watch water wave wheel wind window winter wolf wood wool yard year zebra"
).split()

PLAIN_WORDS = (
    "the a an and or but if then so because of to in on at by for with from into over under after "
    "before again once more most some any all each every other another such only own same than too "
    "very can will just should now here there when where why how what who which this that these "
    "those I you he she it we they me him her us them my your his its our their is am are was were "
    "be been have has had do does did say says said go goes went come came see saw know knew think "
    "take took make made give gave find found tell told ask asked work worked feel felt try tried "
    "leave left call called run jump jumps jumped walk sing eat drink read write quick slow brown "
    "lazy happy sad good bad new old great small large long short high low early late young big "
    "one two three four five six seven eight nine ten eleven twelve twenty hundred first second "
    "third last next red green blue yellow orange purple pink black white hello world test fig plum "
    "kiwi lime carrot onion cabbage pasta pizza salad man woman boy girl people friend teacher army "
    "news idea word line side hand part place case week month hour minute point home room fact "
    "alpha beta gamma delta omega foo bar baz lorem ipsum dolor sit amet north south east west"
).split()

_ONSETS = "b br c ch d dr f fl g gr h j k kl l m n p pl qu r s sh st t tr v w z".split()
_VOWELS = "a e i o u ai ea oo".split()
_CODAS = ["", "", "l", "n", "r", "s", "t", "m", "x", "nd", "rk"]


def made_up(rng: random.Random, min_syllables: int = 2, max_syllables: int = 3) -> str:
    """A pronounceable word that is in no list, in lower case."""
    count = rng.randint(min_syllables, max_syllables)
    parts = [rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(count)]
    return "".join(parts) + rng.choice(_CODAS)


def first_name(rng: random.Random) -> str:
    return made_up(rng).capitalize() if rng.random() < 0.4 else rng.choice(FIRST_NAMES)


def full_name(rng: random.Random) -> str:
    last = made_up(rng).capitalize() if rng.random() < 0.4 else rng.choice(LAST_NAMES)
    return f"{first_name(rng)} {last}"


def city(rng: random.Random) -> str:
    return made_up(rng).capitalize() if rng.random() < 0.3 else rng.choice(CITIES)


def word(rng: random.Random) -> str:
    return rng.choice(COMMON_WORDS)


def any_word(rng: random.Random) -> str:
    """A word of any kind: listed, plain, a name, a number, or made up; sometimes capitalised."""
    roll = rng.random()
    if roll < 0.3:
        drawn = rng.choice(PLAIN_WORDS)
    elif roll < 0.6:
        drawn = rng.choice(COMMON_WORDS)
    elif roll < 0.7:
        drawn = rng.choice((first_name(rng), city(rng), rng.choice(LAST_NAMES)))
    elif roll < 0.75:
        drawn = str(rng.randint(0, 9999))
    elif roll < 0.8:
        letters = "abcdefghijklmnopqrstuvwxyz"
        drawn = "".join(rng.choice(letters) for _ in range(rng.randint(1, 7)))
    else:
        drawn = made_up(rng)
    return drawn.capitalize() if rng.random() < 0.08 else drawn


_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
).split()
_TENS = "- - twenty thirty forty fifty sixty seventy eighty ninety".split()


def number_words(value: int) -> str:
    """A whole number under ten thousand in words."""
    if value < 0:
        return f"minus {number_words(-value)}"
    if value < 20:
        return _ONES[value]
    if value < 100:
        tens, ones = divmod(value, 10)
        return _TENS[tens] + (f"-{_ONES[ones]}" if ones else "")
    unit, size = ("thousand", 1000) if value >= 1000 else ("hundred", 100)
    head, rest = divmod(value, size)
    return f"{number_words(head)} {unit}" + (f" {number_words(rest)}" if rest else "")
