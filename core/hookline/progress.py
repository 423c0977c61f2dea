"""ProgressBars: what a person sees while weights load and an offline batch runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm


class ProgressBars:
    """Bars on stderr, or nothing when disabled."""

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled
        self._loading: tqdm[Any] | None = None

    def loading(self, what: str, done: int, total: int) -> None:
        """Weight loading moved to ``done`` of ``total``; the bar goes away when it is full."""
        if not self._enabled:
            return
        if self._loading is None:
            self._loading = tqdm(total=total, desc=what, unit="tensor", leave=False)
        self._loading.update(done - self._loading.n)
        if done >= total:
            self._loading.close()
            self._loading = None

    @contextmanager
    def generation(self, num_choices: int) -> Iterator[GenerationBar]:
        """A bar for an offline batch."""
        with tqdm(total=num_choices, desc="Generating", unit="req", disable=not self._enabled) as bar:
            yield GenerationBar(bar)


class GenerationBar:
    """Counts finished requests and their tokens."""

    def __init__(self, bar: tqdm[Any]) -> None:
        self._bar = bar
        self._tokens = 0

    def update(self, output_ids: Sequence[int]) -> None:
        """One more request has ended."""
        self._tokens += len(output_ids)
        self._bar.set_postfix_str(f"{self._tokens} output tokens", refresh=False)
        self._bar.update(1)
