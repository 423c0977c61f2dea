"""The generator's items say what is right."""

from __future__ import annotations

import json
import operator

import pytest

from training.adapters import to_number_words, to_upper
from training.draw import Draw, Split
from training.items import Item
from training.names import number_words
from training.tasks.arithmetic import work
from training.tasks.registry import all_tasks

TASKS = all_tasks()
OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul}


def items(name: str, count: int = 50) -> list[Item]:
    return [TASKS[name].make(Draw(f"tasks test {i}", Split.TRAIN)) for i in range(count)]


@pytest.mark.parametrize("name", sorted(TASKS))
def test_items_have_as_many_media_as_placeholders(name: str) -> None:
    for item in items(name):
        contents = [message["content"] for message in item.messages]
        parts = [part for content in contents if isinstance(content, list) for part in content]
        assert sum(part["type"] in ("image", "video") for part in parts) == len(item.media)
        assert item.reply
        assert item.thought


@pytest.mark.parametrize("name", ["arithmetic", "arithmetic_direct", "turns_sum"])
def test_sums_are_right(name: str) -> None:
    for item in items(name):
        a, sign, b, _, value = item.reply.rstrip(".").split()
        assert OPERATORS[sign](int(a), int(b)) == int(value)


def test_the_written_method_ends_in_the_digits_of_the_result() -> None:
    assert work(347, "+", 285) == "7+5=12, 4+8+1=13, 3+2+1=6."
    assert work(112, "-", 44) == "12-4=8, 11-4-1=6, 1-0-1=0."
    assert work(26, "*", 9) == "6*9=54, 2*9+5=23."


def test_tool_calls_name_an_offered_tool_and_its_parameters() -> None:
    for item in items("tool_call", 120):
        assert item.tools
        schemas = {tool["function"]["name"]: tool["function"] for tool in item.tools}
        for block in item.reply.split("<tool_call>\n")[1:]:
            call = json.loads(block.split("\n</tool_call>")[0])
            schema = schemas[call["name"]]["parameters"]
            assert sorted(call["arguments"]) == sorted(schema["required"])


def test_extracted_fields_stand_in_the_text() -> None:
    for item in items("extraction"):
        for value in json.loads(item.reply).values():
            assert str(value) in item.messages[-1]["content"]


def test_numbers_are_put_into_words() -> None:
    assert number_words(0) == "zero"
    assert number_words(47) == "forty-seven"
    assert number_words(-312) == "minus three hundred twelve"
    assert number_words(9080) == "nine thousand eighty"


def test_adapters_change_the_style_of_a_reply() -> None:
    item = TASKS["arithmetic"].make(Draw("style", Split.TRAIN))
    draw = Draw("style", Split.TRAIN)
    assert to_upper(TASKS["talk"].make(draw), draw).reply.isupper()
    spoken = to_number_words(item, draw)
    assert not any(character.isdigit() for character in spoken.reply)
    assert spoken.thought.endswith(item.reply)
