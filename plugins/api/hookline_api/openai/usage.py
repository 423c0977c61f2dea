"""Usage: token counts over all choices of a request."""

from __future__ import annotations

from typing import Any

from hookline.messages.outputs import RequestStats


class Usage:
    """Counts by prompt and choice; a prompt counts once, however many choices it has."""

    def __init__(self) -> None:
        self._stats: dict[tuple[int, int], RequestStats] = {}

    def update(self, prompt: int, choice: int, stats: RequestStats) -> None:
        """Take the newest counts of a choice."""
        self._stats[prompt, choice] = stats

    def body(self) -> dict[str, Any]:
        """The usage object. Cached tokens are those of a prompt's first choice: the others share its prompt."""
        first: dict[int, RequestStats] = {}
        for key in sorted(self._stats):
            first.setdefault(key[0], self._stats[key])
        prompt_tokens = sum(stats.prompt_tokens for stats in first.values())
        completion_tokens = sum(stats.completion_tokens for stats in self._stats.values())
        return {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
            "prompt_tokens_details": {"cached_tokens": sum(stats.cached_tokens for stats in first.values())},
        }
