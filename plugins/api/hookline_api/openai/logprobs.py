"""Log-probabilities in the two shapes of the OpenAI API."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Any

from hookline.interfaces.api import Serving
from hookline.messages.outputs import TokenLogprob

#: How many alternatives a request may ask for.
MAX_TOP_LOGPROBS = 20
#: What the API gives for probability zero; JSON has no infinity.
_LEAST = -9999.0


def chat_logprobs(serving: Serving, entries: Sequence[TokenLogprob], top: int) -> dict[str, Any]:
    """``logprobs`` of a chat choice or chunk, one entry per token, with the token's exact bytes."""

    def item(token_id: int, logprob: float | None) -> dict[str, Any]:
        return {
            "token": serving.token_text(token_id),
            "logprob": _finite(logprob),
            "bytes": list(serving.token_bytes(token_id)),
        }

    return {
        "content": [
            {
                **item(entry.token_id, entry.logprob),
                "top_logprobs": [item(token_id, logprob) for token_id, logprob in entry.top[:top]],
            }
            for entry in entries
        ],
        "refusal": None,
    }


class CompletionLogprobs:
    """``logprobs`` of one completion choice; keeps count of the text between chunks."""

    def __init__(self, serving: Serving, *, skip_special_tokens: bool) -> None:
        self._serving = serving
        self._skip_special_tokens = skip_special_tokens
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = 0
        self._shown: dict[int, bool] = {}

    async def block(self, entries: Sequence[TokenLogprob], top: int) -> dict[str, Any]:
        """The object for the next tokens. ``text_offset`` counts characters from the choice's beginning."""
        offsets = [await self._advance(entry.token_id) for entry in entries]
        return {
            "tokens": [self._name(entry.token_id) for entry in entries],
            "token_logprobs": [None if entry.logprob is None else _finite(entry.logprob) for entry in entries],
            "top_logprobs": [self._top(entry, top) for entry in entries],
            "text_offset": offsets,
        }

    def _top(self, entry: TokenLogprob, top: int) -> dict[str, float] | None:
        """The best tokens and the one that was taken. Of tokens with one name the best counts."""
        if entry.logprob is None:
            return None
        named: dict[str, float] = {}
        for token_id, logprob in (*entry.top[:top], (entry.token_id, entry.logprob)):
            name = self._name(token_id)
            named[name] = max(_finite(logprob), named.get(name, _LEAST))
        return named

    def _name(self, token_id: int) -> str:
        """The token's text; bytes that are no text by themselves are written out, so that names stay apart."""
        exact = self._serving.token_bytes(token_id)
        try:
            return exact.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in exact)

    async def _advance(self, token_id: int) -> int:
        """Where the token begins; counts its characters if it is in the text."""
        start = self._offset
        if self._skip_special_tokens and token_id not in self._shown:
            self._shown[token_id] = bool(await self._serving.detokenize([token_id], skip_special_tokens=True))
        if self._shown.get(token_id, True):
            self._offset += len(self._decoder.decode(self._serving.token_bytes(token_id)))
        return start


def _finite(logprob: float | None) -> float:
    return _LEAST if logprob is None else max(logprob, _LEAST)
