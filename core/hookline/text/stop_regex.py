"""StopRegex: a regex from a client, searched in growing text without letting it hold up the engine."""

from __future__ import annotations

import re
import time
import warnings

import regex  # type: ignore[import-untyped]

from hookline.errors import RequestError
from hookline.sampling_params import MAX_STOP_LENGTH
from hookline.text.regex_size import expanded_length

#: A pattern with its counted repeats written out may be so long: the regex library writes some of them out.
MAX_EXPANDED_LENGTH = 10_000


class StopRegex:
    """One regex and the place from which it can still match.

    The syntax is that of Python's ``re``. Matching runs on the regex library, which can report partial matches
    and keeps a time limit.
    """

    def __init__(self, pattern: str) -> None:
        """Raises ``RequestError`` for a pattern that is too long, does not compile or matches the empty text."""
        self.pattern = pattern
        self._compiled = _compile(pattern)
        #: Matches what reaches the end of the text, whatever comes behind: an assertion that fails there now
        #: ("\\b" before a letter) may hold with the next piece, and regex calls that no partial match.
        self._open = _compile_open(pattern)
        #: No match that is still to come begins before this place.
        self.begin = 0

    def search(self, text: str, timeout: float) -> tuple[int, int] | None:
        """(start, end) of a match in ``text``, which begins as in the last call. ``TimeoutError`` after so many
        seconds. A match is reported once: the next search begins behind it."""
        deadline = time.perf_counter() + timeout
        found = self._compiled.search(text, self.begin, timeout=timeout)
        if found is not None:
            # Behind an empty match too, or it would be found for ever.
            self.begin = max(found.end(), found.start() + 1)
        remaining = max(deadline - time.perf_counter(), 1e-6)
        partial = self._compiled.search(text, self.begin, partial=True, timeout=remaining)
        next_begin = len(text) if partial is None else partial.start()
        if self._open is not None:
            remaining = max(deadline - time.perf_counter(), 1e-6)
            open_end = self._open.search(text, self.begin, partial=True, timeout=remaining)
            next_begin = next_begin if open_end is None else min(next_begin, open_end.start())
        self.begin = next_begin
        return None if found is None else found.span()


def _compile(pattern: str) -> regex.Pattern[str]:
    if len(pattern) > MAX_STOP_LENGTH:
        raise _refusal(pattern, f"it has {len(pattern)} characters; at most {MAX_STOP_LENGTH} are allowed")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(pattern)
        length = _length(pattern)
        if length > MAX_EXPANDED_LENGTH:
            raise _refusal(pattern, f"its repeats amount to {length} items; at most {MAX_EXPANDED_LENGTH} are allowed")
        compiled = regex.compile(pattern)
    except (re.error, regex.error, OverflowError, RecursionError) as exc:
        raise _refusal(pattern, f"it does not compile: {exc}") from exc
    if compiled.search("") is not None:
        raise _refusal(pattern, "it matches the empty text, so it would stop every output at once")
    return compiled


def _compile_open(pattern: str) -> regex.Pattern[str] | None:
    """For a pattern that compiled: what matches up to the end of the text with every assertion taken as met;
    ``None`` without assertions, where partial matches say all."""
    stripped = _without_assertions(pattern)
    if stripped == pattern:
        return None
    return regex.compile(rf"(?:{stripped})\Z")


def _without_assertions(pattern: str) -> str:
    """The pattern with its word boundaries and line ends taken as met."""
    parts: list[str] = []
    in_class = False
    place = 0
    while place < len(pattern):
        size = 2 if pattern[place] == "\\" else 1
        token = pattern[place : place + size]
        if in_class:
            in_class = token != "]"
        elif token in ("\\b", "\\B", "\\Z", "$"):
            token = "(?:)"
        elif token == "[":
            in_class = True
            # A bracket that closes at once is a member of the class.
            size = 3 if pattern.startswith("[^]", place) else 2 if pattern.startswith("[]", place) else 1
            token = pattern[place : place + size]
        parts.append(token)
        place += size
    return "".join(parts)


def _refusal(pattern: str, reason: str) -> RequestError:
    return RequestError(f"stop_regex {pattern!r:.80} is refused: {reason}", param="stop_regex")


def _length(pattern: str) -> int:
    try:
        return expanded_length(pattern)
    except ValueError as exc:
        raise _refusal(pattern, str(exc)) from exc
