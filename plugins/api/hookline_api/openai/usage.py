"""Usage: token counts over all choices of a request."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from hookline.messages.outputs import RequestStats
from hookline_api.chat.media import media_details

_NOTHING: Mapping[str, int] = MappingProxyType({})


class Usage:
    """Counts by prompt and choice; a prompt counts once, however many choices it has."""

    def __init__(self, *, with_reasoning: bool = False) -> None:
        """``with_reasoning`` says whether the usage tells how many tokens were reasoning."""
        self._with_reasoning = with_reasoning
        self._stats: dict[tuple[int, int], RequestStats] = {}
        self._reasoning: dict[tuple[int, int], int] = {}
        #: Prompt -> kind of medium -> tokens.
        self._media: dict[int, Mapping[str, int]] = {}

    def update(self, prompt: int, choice: int, stats: RequestStats, media_tokens: Mapping[str, int] = _NOTHING) -> None:
        """Take the newest counts of a choice."""
        if media_tokens:
            self._media[prompt] = media_tokens
        self._stats[prompt, choice] = stats

    def add_reasoning(self, prompt: int, choice: int, num_tokens: int) -> None:
        """How many tokens of a choice that has ended were reasoning."""
        self._reasoning[prompt, choice] = num_tokens

    def body(self) -> dict[str, Any]:
        """The usage object. Cached tokens are those of a prompt's first choice: the others share its prompt."""
        first: dict[int, RequestStats] = {}
        for key in sorted(self._stats):
            first.setdefault(key[0], self._stats[key])
        prompt_tokens = sum(stats.prompt_tokens for stats in first.values())
        completion_tokens = sum(stats.completion_tokens for stats in self._stats.values())
        usage: dict[str, Any] = {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
            "prompt_tokens_details": {"cached_tokens": sum(stats.cached_tokens for stats in first.values())},
        }
        for tokens in self._media.values():
            for name, count in media_details(tokens).items():
                details = usage["prompt_tokens_details"]
                details[name] = details.get(name, 0) + count
        num_items = sum(stats.media_items for stats in first.values())
        if num_items:
            # Items are pictures and runs of frames; reused ones were not encoded for this request.
            reused = sum(stats.media_reused for stats in first.values())
            usage["prompt_tokens_details"] |= {"media_items": num_items, "reused_media_items": reused}
        if self._with_reasoning:
            usage["completion_tokens_details"] = {"reasoning_tokens": sum(self._reasoning.values())}
        return usage
