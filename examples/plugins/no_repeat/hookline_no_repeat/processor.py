"""No n-gram twice."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from hookline.errors import RequestError
from hookline.interfaces.logits import LogitsProcessor

if TYPE_CHECKING:
    import torch


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a request gives."""

    size: Annotated[int, msgspec.Meta(ge=2)]
    output_only: bool = False


class NoRepeat(LogitsProcessor):
    """``{"size": 3, "output_only": false}``: forbids each token that would complete a sequence a second time."""

    def validate(self, params: Any, vocab_size: int) -> Params:
        try:
            return msgspec.convert(params, Params)
        except msgspec.ValidationError as exc:
            raise RequestError(
                f"logits processor 'no-repeat' takes size, an integer from 2, and output_only, a boolean: {exc}",
                param="logits_processors.no-repeat",
            ) from exc

    def apply(self, logits_V: torch.Tensor, params: Params, prompt_ids: list[int], output_ids: list[int]) -> None:
        text = output_ids if params.output_only else prompt_ids + output_ids
        vocab_size = logits_V.shape[0]
        # In a prompt, ids beyond the vocabulary stand for images and the like.
        forbidden = [token for token in completions(text, params.size) if token < vocab_size]
        if 0 < len(forbidden) < vocab_size:
            logits_V[forbidden] = -math.inf


def completions(text: list[int], size: int) -> set[int]:
    """The tokens that followed the last ``size - 1`` tokens of ``text`` wherever those came before."""
    beginning = text[len(text) - size + 1 :]
    if len(text) < size:
        return set()
    starts = range(len(text) - size + 1)
    return {text[at + size - 1] for at in starts if text[at : at + size - 1] == beginning}
