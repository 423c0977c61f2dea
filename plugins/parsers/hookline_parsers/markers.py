"""Markers: finds fixed strings in text that arrives in pieces, and knows what might still become one."""

from __future__ import annotations

import re


class Markers:
    """A set of fixed strings, none of which contains another.

    That condition makes the first complete marker final whatever comes later: a marker that started before
    it would have to reach over it, and so contain it.
    """

    def __init__(self, *markers: str) -> None:
        for marker in markers:
            assert marker, "a marker is not empty"
            assert not any(marker in other for other in markers if other is not marker), "markers must not nest"
        self._pattern = re.compile("|".join(re.escape(marker) for marker in markers))
        self._starts = frozenset(marker[:end] for marker in markers for end in range(1, len(marker)))
        self._longest_start = max(len(marker) for marker in markers) - 1

    def split(self, text: str) -> tuple[str, str | None, str]:
        """(text before the first marker, the marker, the rest).

        Without a marker: (text that cannot be part of one, ``None``, the tail that may be the start of one).
        """
        match = self._pattern.search(text)
        if match:
            return text[: match.start()], match.group(), text[match.end() :]
        for length in range(min(self._longest_start, len(text)), 0, -1):
            if text[-length:] in self._starts:
                return text[:-length], None, text[-length:]
        return text, None, ""
