"""StopMatcher: finds stop strings and stop regexes in text that arrives in pieces."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from hookline.errors import RequestError
from hookline.text.stop_regex import StopRegex

#: Seconds that all regexes of one request may take beyond ``_FREE_SECONDS`` for each search.
REGEX_BUDGET = 1.0
#: What an honest search takes is not counted, or long outputs would run out of time.
_FREE_SECONDS = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class StopMatch:
    """A stop that was found; places count characters of all text fed so far."""

    start: int
    end: int
    #: The matched text.
    text: str
    #: The stop string or the regex that matched.
    stop: str


class StopMatcher:
    """Finds the stop that ends first; of those that end together, the one that begins first.

    Stop strings are found however the text is cut. A regex sees the text up to the end of each piece, so what
    it takes may depend on the cuts; callers that must agree feed the text of one token at a time.
    """

    def __init__(
        self, stop: Sequence[str] = (), stop_regex: Sequence[str] = (), *, regex_budget: float = REGEX_BUDGET
    ) -> None:
        """``stop`` holds non-empty strings. Raises ``RequestError`` for a regex that ``StopRegex`` refuses."""
        self._strings = tuple(dict.fromkeys(stop))
        self._regexes = [StopRegex(pattern) for pattern in stop_regex]
        self._longest = max(map(len, self._strings), default=1)
        self._budget = regex_budget
        #: The end of the text fed so far (all of it if there are regexes), and what was before it.
        self._text = ""
        self._num_dropped = 0
        #: Characters at the end of the text that may turn out to be the beginning of a stop.
        self.withheld = 0

    def feed(self, piece: str) -> StopMatch | None:
        """Take more text; the stop that ends in it, if any.

        One may go on after a match: stops that end in later pieces are found. Raises ``RequestError`` when the
        request's regexes have used up their time.
        """
        if not piece:
            return None
        num_old = len(self._text)
        self._text += piece
        found = [*self._find_strings(num_old), *self._find_regexes()]
        self.withheld = max([self._begun_string(), *(len(self._text) - regex.begin for regex in self._regexes)])
        match = self._match(*min(found)) if found else None
        if not self._regexes:
            num_kept = min(len(self._text), self._longest - 1)
            self._num_dropped += len(self._text) - num_kept
            self._text = self._text[len(self._text) - num_kept :]
        return match

    def _match(self, end: int, start: int, stop: str) -> StopMatch:
        before = self._num_dropped
        return StopMatch(start=before + start, end=before + end, text=self._text[start:end], stop=stop)

    def _find_strings(self, num_old: int) -> list[tuple[int, int, str]]:
        """(end, start, stop) of each string's first place that ends in the new text."""
        found = []
        for string in self._strings:
            start = self._text.find(string, max(0, num_old + 1 - len(string)))
            if start >= 0:
                found.append((start + len(string), start, string))
        return found

    def _find_regexes(self) -> list[tuple[int, int, str]]:
        found = []
        for regex in self._regexes:
            started = time.perf_counter()
            try:
                span = regex.search(self._text, self._budget + _FREE_SECONDS)
            except TimeoutError as exc:
                raise self._out_of_time(regex) from exc
            self._budget -= max(0.0, time.perf_counter() - started - _FREE_SECONDS)
            if self._budget <= 0:
                raise self._out_of_time(regex)
            if span is not None:
                found.append((span[1], span[0], regex.pattern))
        return found

    def _out_of_time(self, regex: StopRegex) -> RequestError:
        return RequestError(
            f"searching for stop_regex took too long; the last one tried was {regex.pattern!r:.80}. "
            "Write simpler ones, without nested repeats",
            param="stop_regex",
        )

    def _begun_string(self) -> int:
        """Length of the longest end of the text that is the beginning of a stop string."""
        text = self._text
        longest = 0
        for string in self._strings:
            start = text.find(string[0], max(0, len(text) + 1 - len(string)))
            while 0 <= start < len(text) - longest:
                if string.startswith(text[start:]):
                    longest = len(text) - start
                else:
                    start = text.find(string[0], start + 1)
        return longest
