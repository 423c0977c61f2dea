"""RequestText: the text of one request's output, as far as it may be shown."""

from __future__ import annotations

from collections.abc import Sequence

from hookline.errors import RequestError
from hookline.messages.outputs import DetokenizeStart, FinishReason
from hookline.text.incremental import incremental_detokenizer
from hookline.text.stops import REGEX_BUDGET, StopMatch, StopMatcher
from hookline.text.tokenizer import Tokenizer


class RequestText:
    """Turns tokens into text that is never taken back.

    Text that may still become a stop is held back. Stops are looked for where the scheduler looks for them, in
    the text with all special tokens; what is shown may leave those out.
    """

    def __init__(self, tokenizer: Tokenizer, start: DetokenizeStart) -> None:
        self._keeps_stop = start.no_stop_trim
        self._shown = incremental_detokenizer(
            tokenizer,
            start.prompt_tail,
            skip_special_tokens=start.skip_special_tokens,
            spaces_between_special_tokens=start.spaces_between_special_tokens,
        )
        self._stops = _HeldText(tokenizer, start) if start.stop or start.stop_regex else None

    def add(self, token_ids: Sequence[int], finish: FinishReason | None) -> str:
        """The text that can be shown now. With ``finish`` it is all that is left, without the stop."""
        matched = finish.matched if finish is not None and finish.type == "stop" else None
        if isinstance(matched, int) and not self._keeps_stop and token_ids and token_ids[-1] == matched:
            token_ids = token_ids[:-1]
        if self._stops is None:
            text = "".join(map(self._shown.push, token_ids))
            return text if finish is None else text + self._shown.flush()
        match = None
        for token_id in token_ids:
            match = self._stops.add(token_id, self._shown.push(token_id))
        if finish is None:
            return self._stops.take_safe()
        if match is not None and isinstance(matched, str):
            return self._stops.take_until(match.end if self._keeps_stop else match.start)
        return self._stops.take_all() + self._shown.flush()


class _HeldText:
    """Text of a request with stops that was not shown yet.

    Places in the searched text (with special tokens) and in the shown text differ by the special tokens that
    were skipped; ``_skips`` remembers where.
    """

    def __init__(self, tokenizer: Tokenizer, start: DetokenizeStart) -> None:
        # The scheduler is the judge; here a search only has to end.
        self._matcher = StopMatcher(start.stop, start.stop_regex, regex_budget=2 * REGEX_BUDGET)
        self._gave_up = False
        self._searched = incremental_detokenizer(tokenizer, start.prompt_tail, skip_special_tokens=False)
        self._skipped_ids = tokenizer.special_ids if start.skip_special_tokens else frozenset()
        self._num_searched = 0
        self._held = ""
        #: Characters of the shown text before ``_held``.
        self._num_taken = 0
        #: (start and end in the searched text, place in the shown text) of skipped special tokens.
        self._skips: list[tuple[int, int, int]] = []

    def add(self, token_id: int, shown: str) -> StopMatch | None:
        """Take one token and the text that it shows; the stop that it completes, if any."""
        piece = self._searched.push(token_id)
        if token_id in self._skipped_ids:
            end = self._num_searched + len(piece)
            self._skips.append((self._num_searched, end, self._num_taken + len(self._held)))
        self._num_searched += len(piece)
        self._held += shown
        if self._gave_up:
            return None
        try:
            return self._matcher.feed(piece)
        except RequestError:
            # The scheduler's own search ends the request; until then nothing needs to be held.
            self._gave_up = True
            return None

    def take_safe(self) -> str:
        """What cannot be part of a stop."""
        if self._gave_up:
            return self.take_all()
        place = self._num_searched - self._matcher.withheld
        text = self.take_until(place)
        while len(self._skips) > 1 and self._skips[1][1] <= place:
            self._skips.pop(0)
        return text

    def take_until(self, place: int) -> str:
        """What is shown before a place in the searched text."""
        size = max(0, self._in_shown_text(place) - self._num_taken)
        text, self._held = self._held[:size], self._held[size:]
        self._num_taken += len(text)
        return text

    def take_all(self) -> str:
        """All that is held."""
        text, self._held = self._held, ""
        self._num_taken += len(text)
        return text

    def _in_shown_text(self, place: int) -> int:
        for start, end, shown in reversed(self._skips):
            if place >= end:
                return shown + place - end
            if place > start:
                return shown
        return place
