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
        starts = sorted({marker[:end] for marker in markers for end in range(1, len(marker))})
        # The search goes from left to right, so it finds the longest tail that is the start of a marker.
        self._start_at_end = re.compile(f"(?:{'|'.join(map(re.escape, starts))})\\Z")

    def split(self, text: str) -> tuple[str, str | None, str]:
        """(text before the first marker, the marker, the rest).

        Without a marker: (text that cannot be part of one, ``None``, the tail that may be the start of one).
        """
        match = self._pattern.search(text)
        if match:
            return text[: match.start()], match.group(), text[match.end() :]
        start = self._start_at_end.search(text)
        if start:
            return text[: start.start()], None, start.group()
        return text, None, ""
