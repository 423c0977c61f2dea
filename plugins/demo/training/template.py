"""The checkpoint's chat template, rendered as transformers renders it, without importing it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jinja2.sandbox import ImmutableSandboxedEnvironment

from training.items import Item

CHECKPOINT = Path(__file__).parent.parent / "hookline_demo" / "checkpoint"


class ChatTemplate:
    def __init__(self, directory: Path = CHECKPOINT) -> None:
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.filters["tojson"] = _to_json
        source = (directory / "chat_template.jinja").read_text()
        self._template = environment.from_string(source)

    def prompt(self, item: Item, *, thinking: bool) -> str:
        """Everything up to where the model's turn begins."""
        return self._template.render(
            messages=item.messages,
            tools=item.tools,
            add_generation_prompt=True,
            enable_thinking=thinking,
        )

    def completion(self, item: Item, *, thinking: bool) -> str:
        """What the model has to write."""
        thought = f"<think>\n{item.thought}\n</think>\n\n" if thinking else ""
        return f"{thought}{item.reply}<|im_end|>"


def _to_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
