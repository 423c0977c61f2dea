"""Sums, differences and products, worked digit by digit in the thought."""

from __future__ import annotations

import random

from training.draw import Draw
from training.items import Item, question

SYMBOLIC = [
    "{What is|What's|Calculate|Compute|Work out|How much is|Give me|Solve|} <a> <op> <b>{?|}",
    "{What is|What's|Calculate|Compute|Work out|How much is|Solve} <a><op><b>{?|}",
    "<a> <op> <b> = {?|}",
    "<a> <op> <b> {is what|makes what|gives what|equals what}?",
    "{What does|How much does} <a> <op> <b> {make|give|equal}?",
    "{Can you|Could you|Please} {calculate|compute|work out|add up|solve} <a> <op> <b>{?| for me?}",
    "{What is|Tell me|I need|Give me} the {result|value|answer} of <a> <op> <b>.",
]
ADD = [
    "{What is|What's|How much is} <a> {plus|and} <b>?",
    "{Add|Add together|Sum} <a> and <b>.",
    "{What is|Tell me|Calculate|Give me} the sum of <a> and <b>.",
    "{I have|There are|You have} <a> {apples|books|coins|pens} and {get|find|buy} <b> more. How many "
    "{is that|are there now|in all}?",
]
SUBTRACT = [
    "{What is|What's|How much is} <a> minus <b>?",
    "{Subtract|Take|Take away} <b> from <a>.",
    "{What is|Tell me|Calculate|Give me} the difference {of|between} <a> and <b>.",
    "{I have|There are|You have} <a> {apples|books|coins|pens} and {give away|lose|sell} <b>. How many "
    "{are left|remain|is that}?",
]
MULTIPLY = [
    "{What is|What's|How much is} <a> {times|multiplied by} <b>?",
    "{Multiply|Take the product of} <a> {and|with} <b>.",
    "{What is|Tell me|Calculate|Give me} the product of <a> and <b>.",
]

MINUS_SIGN = "-"


def answer_text(a: int, op: str, b: int) -> str:
    value = {"+": a + b, "-": a - b, "*": a * b}[op]
    return f"{a} {op} {b} = {value}."


def work(a: int, op: str, b: int) -> str:
    """The written method, from the last digit to the first."""
    if op == "+":
        return _work_sum(a, b)
    if op == "*":
        return _work_product(a, b)
    if a < b:
        return f"{a} is less than {b}, so the result is negative. {b} - {a}: {_work_difference(b, a)}"
    return _work_difference(a, b)


def operand(rng: random.Random, max_digits: int) -> int:
    digits = rng.randint(1, max_digits)
    return rng.randint(0 if digits == 1 else 10 ** (digits - 1), 10**digits - 1)


def arithmetic_thinking(draw: Draw) -> Item:
    """Up to three digits with a thought; products with one factor of one digit."""
    return _arithmetic(draw, "arithmetic", ("+", "+", "-", "-", "*"), (True,))


def arithmetic_direct(draw: Draw) -> Item:
    """Sums and differences of up to three digits without a thought."""
    return _arithmetic(draw, "arithmetic_direct", ("+", "-"), (False,))


def pair_key(pair: tuple[int, int]) -> str:
    return f"{min(pair)} {max(pair)}"


def draw_pair(draw: Draw, op: str) -> tuple[int, int]:
    rng = draw.rng

    def make() -> tuple[int, int]:
        if op == "*":
            a, b = rng.randint(11, 999 if rng.random() < 0.4 else 99), rng.randint(2, 9)
            return (a, b) if rng.random() < 0.8 else (b, a)
        a, b = operand(rng, 3), operand(rng, 3)
        if op == "-" and a < b and rng.random() < 0.7:
            a, b = b, a
        return a, b

    return draw.until("pair", make, pair_key)


def _arithmetic(draw: Draw, task: str, ops: tuple[str, ...], modes: tuple[bool, ...]) -> Item:
    op = draw.rng.choice(ops)
    a, b = draw_pair(draw, op)
    if draw.chance(0.5):
        name, grammar = "symbolic", SYMBOLIC
    else:
        name, grammar = {
            "+": ("add", ADD),
            "-": ("subtract", SUBTRACT),
            "*": ("multiply", MULTIPLY),
        }[op]
        if op == "-" and a < b:
            name, grammar = "symbolic", SYMBOLIC
    sign = draw.rng.choice(("*", "x", "*", "×")) if op == "*" else op
    text = draw.phrase(f"arithmetic_{name}", grammar, a=a, b=b, op=sign)
    item = question(task, text, answer_text(a, op, b), work(a, op, b))
    return Item(
        task=task,
        messages=item.messages,
        reply=item.reply,
        thought=item.thought,
        chainable=True,
        modes=modes,
    )


def sum_asked(draw: Draw, a: int, b: int) -> str:
    """A question for a sum, in any phrasing."""
    if draw.chance(0.5):
        return draw.phrase("arithmetic_symbolic", SYMBOLIC, a=a, b=b, op="+")
    return draw.phrase("arithmetic_add", ADD, a=a, b=b)


def _digits(value: int) -> list[int]:
    return [int(digit) for digit in reversed(str(value))]


def _at(digits: list[int], place: int) -> int:
    return digits[place] if place < len(digits) else 0


def _work_sum(a: int, b: int) -> str:
    left, right = _digits(a), _digits(b)
    carry, steps = 0, []
    for place in range(max(len(left), len(right))):
        x, y = _at(left, place), _at(right, place)
        total = x + y + carry
        terms = f"{x}+{y}+{carry}" if carry else f"{x}+{y}"
        carry = total // 10
        steps.append(f"{terms}={total}")
    return ", ".join(steps) + "."


def _work_difference(a: int, b: int) -> str:
    left, right = _digits(a), _digits(b)
    borrow, steps = 0, []
    for place in range(len(left)):
        x, y = left[place], _at(right, place)
        terms = f"{x}-{y}-{borrow}" if borrow else f"{x}-{y}"
        value = x - y - borrow
        borrow = int(value < 0)
        steps.append(f"{terms}={value}" if not borrow else f"1{terms}={value + 10}")
    return ", ".join(steps) + "."


def _work_product(a: int, b: int) -> str:
    long, factor = (a, b) if a >= b else (b, a)
    carry, steps = 0, []
    for digit in _digits(long):
        total = digit * factor + carry
        steps.append(f"{digit}*{factor}+{carry}={total}" if carry else f"{digit}*{factor}={total}")
        carry = total // 10
    return ", ".join(steps) + "."
