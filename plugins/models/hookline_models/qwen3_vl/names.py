"""Names of the tensors in checkpoints of Qwen3-VL."""

from __future__ import annotations

_TEXT = "model.language_model."
#: Transformers saves the tower below ``model``; some checkpoints have it at the top.
_BARE_TOWER = "visual."
#: Where the model has the tower.
TOWER = "model.visual"


def model_name(name: str) -> str:
    """A checkpoint's name as the model knows it."""
    if name.startswith(_TEXT):
        return f"model.{name.removeprefix(_TEXT)}"
    return f"model.{name}" if name.startswith(_BARE_TOWER) else name
