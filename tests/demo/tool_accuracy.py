"""What a served demo makes of tools and schemas, asked as a user asks: ``python -m tests.demo.tool_accuracy``."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import openai

from tests.factories.demo_server import RunningServer
from training.evaluate import evaluation_tasks, held_out
from training.items import Item

#: Requests at a time.
_CONCURRENCY = 16
_MODES = (True, False)


@dataclass(slots=True)
class Report:
    """Counts, and what was answered."""

    num_items: int = 0
    num_right: int = 0
    #: Answers that ended by themselves, and those of them that follow their grammar.
    num_stopped: int = 0
    num_valid: int = 0
    answers: list[Any] = field(default_factory=list)
    misses: list[str] = field(default_factory=list)

    @property
    def percent(self) -> float:
        return 100.0 * self.num_right / self.num_items

    def add(self, item: Item, answer: Any, *, is_right: bool) -> None:
        """Count an answer."""
        self.num_items += 1
        self.num_right += is_right
        self.answers.append(answer)
        if not is_right:
            self.misses.append(f"{item.messages[-1]['content']!r} -> {answer!r}, not {item.reply!r}")


def tool_items(count: int, *, only_calls: bool = False) -> list[tuple[Item, bool]]:
    """Held-out prompts for one call, two or, unless ``only_calls``, none, each with its thinking mode."""
    task = evaluation_tasks()["tool_call"]
    found = []
    for mode in _MODES:
        items = [item for item in held_out(task, mode, count) if _calls(item) or not only_calls]
        found += [(item, mode) for item in items[: count // 2]]
    return found


def schema_items(count: int) -> list[tuple[Item, bool]]:
    """Held-out extractions; the schema of each says its fields and their types."""
    task = evaluation_tasks()["extraction"]
    return [(item, mode) for mode in _MODES for item in held_out(task, mode, count // 2)]


def schema_of(item: Item) -> dict[str, Any]:
    """The schema of the record that an extraction asks for."""
    record = json.loads(item.reply)
    kinds = {str: "string", int: "integer", float: "number", bool: "boolean"}
    properties = {name: {"type": kinds[type(value)]} for name, value in record.items()}
    return {"type": "object", "properties": properties, "required": list(record), "additionalProperties": False}


def ask_for_tools(url: str, items: Sequence[tuple[Item, bool]], choice: str) -> Report:
    """Answers with this ``tool_choice``; right are the held-out calls and no others."""
    bodies = [{"messages": item.messages, "tools": item.tools, "tool_choice": choice} for item, _ in items]
    report = Report()
    for (item, _), answer in zip(items, _ask(url, bodies, [mode for _, mode in items]), strict=True):
        message, finish = answer.choices[0].message, answer.choices[0].finish_reason
        calls = [(call.function.name, _loaded(call.function.arguments)) for call in message.tool_calls or ()]
        wanted = _calls(item)
        is_right = calls == wanted and (bool(wanted) or message.content == item.reply)
        report.add(item, [finish, message.content, [list(call) for call in calls]], is_right=is_right)
        if finish != "length":
            report.num_stopped += 1
            report.num_valid += bool(calls or choice == "auto") and all(_fits(item, *call) for call in calls)
    return report


def ask_for_records(url: str, items: Sequence[tuple[Item, bool]]) -> Report:
    """Answers under the schema of each record."""
    bodies = []
    for item, _ in items:
        form = {"type": "json_schema", "json_schema": {"name": "record", "schema": schema_of(item)}}
        bodies.append({"messages": item.messages, "response_format": form})
    report = Report()
    for (item, _), answer in zip(items, _ask(url, bodies, [mode for _, mode in items]), strict=True):
        content, finish = answer.choices[0].message.content, answer.choices[0].finish_reason
        record = _loaded(content)
        report.add(item, [finish, content], is_right=record == json.loads(item.reply))
        if finish == "stop":
            report.num_stopped += 1
            report.num_valid += jsonschema.Draft202012Validator(schema_of(item)).is_valid(record)
    return report


def _calls(item: Item) -> list[tuple[str, Any]]:
    blocks = item.reply.split("<tool_call>")[1:]
    found = [json.loads(block.partition("</tool_call>")[0]) for block in blocks]
    return [(call["name"], call["arguments"]) for call in found]


def _fits(item: Item, name: str, arguments: Any) -> bool:
    schemas = {tool["function"]["name"]: tool["function"]["parameters"] for tool in item.tools or ()}
    return jsonschema.Draft202012Validator(schemas[name]).is_valid(arguments)


def _loaded(text: str | None) -> Any:
    try:
        return json.loads(text or "")
    except ValueError:
        return None


def _ask(url: str, bodies: Sequence[dict[str, Any]], modes: Sequence[bool]) -> list[Any]:
    async def run() -> list[Any]:
        slots = asyncio.Semaphore(_CONCURRENCY)
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=300) as client:

            async def one(body: dict[str, Any], thinks: bool) -> Any:
                extra = {"chat_template_kwargs": {"enable_thinking": thinks}}
                async with slots:
                    return await client.chat.completions.create(
                        model="demo", temperature=0, max_tokens=400, extra_body=extra, **body
                    )

            return await asyncio.gather(*map(one, bodies, modes))

    return asyncio.run(run())


def main(count: int) -> None:
    """Print a table over ``count`` prompts of each kind, with overlap and without."""
    answers: dict[str, list[Any]] = {}
    for flags in ((), ("--disable-overlap-schedule",)):
        with tempfile.TemporaryDirectory() as logs:
            server = RunningServer(Path(logs), flags)
            try:
                for name, report in (
                    ("tools, auto", ask_for_tools(server.url, tool_items(count), "auto")),
                    ("tools, required", ask_for_tools(server.url, tool_items(count, only_calls=True), "required")),
                    ("schema", ask_for_records(server.url, schema_items(count))),
                ):
                    is_equal = answers.setdefault(name, report.answers) == report.answers
                    cells = (
                        " ".join(flags) or "overlap",
                        name,
                        str(report.num_items),
                        f"{report.percent:.1f} %",
                        f"{report.num_valid} of {report.num_stopped}",
                        "yes" if is_equal else "NO",
                    )
                    sys.stdout.write(f"| {' | '.join(cells)} |\n")
                    sys.stdout.flush()
                    sys.stderr.writelines(f"{miss}\n" for miss in report.misses)
            finally:
                server.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
