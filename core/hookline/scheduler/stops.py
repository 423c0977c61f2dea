"""StopChecker: appends sampled tokens and finds out whether they end the request.

The order for each token: end tokens, the grammar's end, stop strings and regexes in the decoded text, and the
length last, so that a stop that the last allowed token completes is reported as a stop. Aborts come before all
of these: they end a request when they arrive.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from hookline.errors import RequestError
from hookline.messages.outputs import FinishReason
from hookline.scheduler.outbox import abort_reason, prompt_tail
from hookline.text.incremental import incremental_detokenizer
from hookline.text.stops import StopMatcher

if TYPE_CHECKING:
    from hookline.messages.requests import TokenizedRequest
    from hookline.scheduler.req import Req
    from hookline.text.incremental import IncrementalDetokenizer
    from hookline.text.tokenizer import Tokenizer


class StopText:
    """Looks for the stops of one request in the text of its output."""

    def __init__(self, detokenizer: IncrementalDetokenizer, matcher: StopMatcher) -> None:
        self._detokenizer = detokenizer
        self._matcher = matcher

    def feed(self, token_id: int) -> str | None:
        """The text of the stop that this token completes. Raises ``RequestError`` when a regex takes too long."""
        match = self._matcher.feed(self._detokenizer.push(token_id))
        return None if match is None else match.text


class StopTexts:
    """Makes a ``StopText`` for each request that has stops. ``get_tokenizer`` may load it when first called."""

    def __init__(self, get_tokenizer: Callable[[], Tokenizer] | None) -> None:
        self._get_tokenizer = get_tokenizer

    def for_request(self, request: TokenizedRequest) -> StopText | None:
        """``None`` without stops. ``RequestError`` for a bad regex, or when there is no tokenizer."""
        params = request.sampling_params
        if not params.stop and not params.stop_regex:
            return None
        if self._get_tokenizer is None:
            raise RequestError(
                "stop strings need a tokenizer, but this engine has none (skip_tokenizer_init); use stop_token_ids",
                param="stop",
            )
        matcher = StopMatcher(params.stop, params.stop_regex)
        # Stops may hold special tokens, whether or not these are shown. The detokenizer process looks in the
        # same text, so both find the same stop.
        detokenizer = incremental_detokenizer(self._get_tokenizer(), prompt_tail(request), skip_special_tokens=False)
        return StopText(detokenizer, matcher)


class StopChecker:
    """Appends tokens to requests."""

    def __init__(self, vocab_size: int) -> None:
        self._vocab_size = vocab_size

    def append(self, req: Req, token_ids: Sequence[int], *, are_accepted: bool = False) -> FinishReason | None:
        """Append the tokens of one step up to the one that ends the request, and say why it ends.

        ``are_accepted``: the grammar has taken them already.
        """
        # For every running request in every step: most have neither a grammar nor stops, and take one short path.
        output_ids = req.output_ids
        is_watched = req.matcher is not None or req.stop_text is not None
        for token_id in token_ids:
            if not 0 <= token_id < self._vocab_size:
                message = f"the model gave token id {token_id}, outside the vocabulary of {self._vocab_size}"
                return abort_reason(RequestError(message, code="invalid_token", status_code=500))
            if is_watched and not are_accepted and (refusal := _accept(req, token_id)) is not None:
                return refusal
            output_ids.append(token_id)
            # The end tokens count as output, but not before min_new_tokens others.
            if token_id in req.end_ids and len(output_ids) > req.params.min_new_tokens:
                return FinishReason(type="stop", matched=token_id)
            if is_watched and (reason := _watched_end(req, token_id)) is not None:
                return reason
            if len(output_ids) >= req.max_new_tokens:
                return FinishReason(type="length")
        return None


def _watched_end(req: Req, token_id: int) -> FinishReason | None:
    """Whether the grammar or a stop ends the request with the token that was just appended."""
    if req.matcher is not None and req.matcher.is_terminated:
        return FinishReason(type="stop")
    if req.stop_text is not None:
        try:
            stop = req.stop_text.feed(token_id)
        except RequestError as error:
            return abort_reason(error)
        if stop is not None:
            return FinishReason(type="stop", matched=stop)
    return None


def _accept(req: Req, token_id: int) -> FinishReason | None:
    """Advance the grammar; the reason to end the request if the grammar does not take the token."""
    if req.matcher is None:
        return None
    try:
        if req.matcher.accept_token(token_id):
            return None
        message = f"the sampled token {token_id} does not fit the grammar"
    except RequestError as error:
        return abort_reason(error)
    except Exception as error:
        message = f"the grammar failed on token {token_id}: {type(error).__name__}: {error}"
    return abort_reason(RequestError(message, code="grammar_failed", status_code=500))
