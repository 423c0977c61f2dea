"""What is served, in Ollama's words: tags, show and ps."""

from __future__ import annotations

import hashlib
from typing import Any

from hookline.errors import NotServedError
from hookline.interfaces.api import ModelCard, Serving
from hookline_ollama.answers import timestamp

#: Ollama's tag of models that were named without one.
_TAG = ":latest"
#: When a model that stays leaves memory.
_NEVER = "9999-12-31T23:59:59Z"
#: Settings of ``output`` without a parser; "auto" is not resolved yet.
_NO_PARSER = (None, "none")


def served_name(serving: Serving, name: str) -> str:
    """The name under which the engine knows a model, which clients may call by name and tag.

    Raises ``NotServedError``.
    """
    try:
        serving.check_model(name)
    except NotServedError:
        if not name.endswith(_TAG):
            raise
        name = name.removesuffix(_TAG)
        serving.check_model(name)
    return name


def capabilities(serving: Serving) -> list[str]:
    """What requests may ask for."""
    output = serving.config.output
    found = ["completion"]
    if output.tool_call_parser not in _NO_PARSER:
        found.append("tools")
    if output.reasoning_parser not in _NO_PARSER:
        found.append("thinking")
    return found


def tags(serving: Serving) -> dict[str, Any]:
    """``/api/tags``."""
    return {"models": [_entry(card) for card in serving.models()]}


def processes(serving: Serving) -> dict[str, Any]:
    """``/api/ps``: everything that is served is in memory."""
    return {
        "models": [
            {**_entry(card), "expires_at": _NEVER, "size_vram": 0, "context_length": card.max_model_len}
            for card in serving.models()
        ]
    }


def show(serving: Serving, name: str) -> dict[str, Any]:
    """``/api/show``. Raises ``NotServedError``."""
    name = served_name(serving, name)
    cards = serving.models()
    # An adapter may also be called "model:adapter".
    card = next((card for card in cards if name in (card.id, f"{card.parent}:{card.id}")), cards[0])
    return {
        "modelfile": f"FROM {card.root}\n",
        "parameters": "",
        "template": "",
        "modified_at": timestamp(card.created),
        "details": _details(card),
        "model_info": {"general.architecture": "hookline", "hookline.context_length": card.max_model_len},
        "capabilities": capabilities(serving),
    }


def _entry(card: ModelCard) -> dict[str, Any]:
    return {
        "name": card.id,
        "model": card.id,
        "modified_at": timestamp(card.created),
        "size": 0,
        # Of the names: checkpoints are not read for it.
        "digest": hashlib.sha256(f"{card.id}\0{card.root}".encode()).hexdigest(),
        "details": _details(card),
    }


def _details(card: ModelCard) -> dict[str, Any]:
    return {
        "parent_model": card.parent or "",
        "format": "safetensors",
        "family": "hookline",
        "families": ["hookline"],
        "parameter_size": "",
        "quantization_level": "",
    }
