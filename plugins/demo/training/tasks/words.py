"""Repeating, counting, sorting and rewriting words and numbers."""

from __future__ import annotations

from training.draw import Draw, Split
from training.items import Item, question
from training.names import COMMON_WORDS, any_word, number_words, word

_SORTABLE = sorted(set(COMMON_WORDS))

REPEAT = [
    "{Repeat|Repeat after me|Say|Echo|Write|Copy}{ these words| the following| this|}: <words>",
    "{Repeat|Say|Echo|Write|Copy} {exactly|word for word|back to me|again}: <words>",
    '{Repeat|Say|Echo|Write|Copy} {the words |the text |}"<words>"{.|}',
]
COUNT = [
    "How many words are {in this|in the|in this list|in the list|there}: <words>{?|}",
    "{Count|Count up} {the|these|the following|all} words: <words>",
    'How many words {are in|has|does it take to say} "<words>"?',
    "{Tell me|Give me|What is} the number of words{ in this| here|}: <words>",
]
SORT = [
    "{Sort|Order|Arrange} {these|the following|the|all} words{ alphabetically| in alphabetical order|"
    " from a to z|}: <words>",
    "{Put|Bring} {these|the following|the|all} words {in order|in alphabetical order}: <words>",
    "{Alphabetize|Sort alphabetically}{ these| these words| the list|}: <words>",
]
SORT_NUMBERS = [
    "{Sort|Order|Arrange} {these|the following|the|all} numbers{ from small to large|"
    " in increasing order| ascending|}: <words>",
    "{Put|Bring} {these|the following|the|all} numbers {in order|in increasing order}: <words>",
]
UPPER = [
    "{Write|Put|Say|Repeat|Print} {this|these words|the following|the words} in {upper case|capitals|"
    "capital letters|uppercase}: <words>",
    "{Capitalize|Make upper case|Convert to upper case|Uppercase}{ this| these words|}: <words>",
]
IN_WORDS = [
    "{Write|Say|Spell|Spell out|Put} {the number |}<words> {in words|as words|in letters}{.|}",
    "{How do you|How would you|How do I} {write|say|spell} <words> in words?",
    "{What is|What's} {the number |}<words> in words?",
]


def _words(draw: Draw, low: int, high: int) -> list[str]:
    """Words of the list, or of any kind."""
    count = draw.rng.randint(low, high)
    drawn = any_word if draw.chance(0.5) else word
    return draw.until("words", lambda: [drawn(draw.rng) for _ in range(count)], " ".join)


def _listed(draw: Draw, words: list[str]) -> str:
    return draw.rng.choice((" ", " ", ", ")).join(words)


def repeat(draw: Draw) -> Item:
    words = _words(draw, 1, 10)
    text = _listed(draw, words)
    if draw.chance(0.2):
        text = text[0].upper() + text[1:]
    thought = "I repeat the words."
    asked = draw.phrase("repeat", REPEAT, words=text)
    return question("repeat_words", asked, text, thought)


def count(draw: Draw) -> Item:
    words = _words(draw, 1, 9)
    thought = ", ".join(f"{i + 1} {w}" for i, w in enumerate(words)) + "."
    asked = draw.phrase("count_words", COUNT, words=_listed(draw, words))
    noun = "word" if len(words) == 1 else "words"
    verb = "is" if len(words) == 1 else "are"
    return question("count_words", asked, f"There {verb} {len(words)} {noun}.", thought)


def sort(draw: Draw) -> Item:
    if draw.chance(0.2):
        return _sort_numbers(draw)

    def make() -> list[str]:
        return draw.rng.sample(_SORTABLE, draw.rng.randint(2, 6))

    words = draw.until("words", make, " ".join)
    ordered = sorted(words)
    thought = ", ".join(f"{w[0]} {w}" for w in ordered) + "."
    asked = draw.phrase("sort_words", SORT, words=_listed(draw, words))
    return question("sort_words", asked, ", ".join(ordered), thought)


def _sort_numbers(draw: Draw) -> Item:
    def make() -> list[int]:
        top = draw.rng.choice((20, 99, 99))
        return draw.rng.sample(range(top + 1), draw.rng.randint(2, 5))

    numbers = draw.until("numbers", make)
    listed = draw.rng.choice((" ", ", ")).join(map(str, numbers))
    ordered = ", ".join(map(str, sorted(numbers)))
    asked = draw.phrase("sort_numbers", SORT_NUMBERS, words=listed)
    return question("sort_words", asked, ordered, "From the smallest to the largest.")


def _number(draw: Draw) -> int:
    """Numbers under a hundred are a closed table; on the held-out side there are larger ones only."""
    if draw.split is Split.TRAIN and draw.chance(0.4):
        return draw.rng.randint(0, draw.rng.choice((20, 99)))
    top = draw.rng.choice((999, 999, 9999))
    return draw.until("number", lambda: draw.rng.randint(100, top))


def rewrite(draw: Draw) -> Item:
    """Upper case and numbers in words."""
    if draw.chance(0.5):
        words = _words(draw, 1, 5)
        text = _listed(draw, words)
        asked = draw.phrase("upper", UPPER, words=text)
        return question("rewrite", asked, text.upper(), "I write it in capitals.")
    value = _number(draw)
    asked = draw.phrase("in_words", IN_WORDS, words=value)
    return question("rewrite", asked, f"{number_words(value)}", "I write the number in words.")
