"""JumpForward: appends text that a grammar forces, without sampling it.

The tokens are those that the tokenizer writes for the text so far: the token just sampled may be replaced by a longer
one. The last of them is left to the model, which may know a longer one too. The request then leaves the batch and
waits, its KV in the prefix cache, for one prefill pass over what was appended.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING

from hookline.errors import RequestError
from hookline.scheduler.outbox import abort_reason

if TYPE_CHECKING:
    from hookline.messages.outputs import FinishReason
    from hookline.scheduler.execution import Execution
    from hookline.scheduler.req import Req
    from hookline.scheduler.stops import StopChecker
    from hookline.text.tokenizer import Tokenizer

#: Output tokens before the forced text that are encoded with it; the first of them is context only.
_CONTEXTS = (4, 2)


class JumpForward:
    """Asked after each sampled token of a constrained request."""

    def __init__(
        self, get_tokenizer: Callable[[], Tokenizer], execution: Execution, stops: StopChecker, least: int
    ) -> None:
        """``least``: tokens that are worth a prefill pass. ``get_tokenizer`` may load it when first called."""
        self._get_tokenizer = get_tokenizer
        self._execution = execution
        self._stops = stops
        self._least = least

    def follow(self, req: Req) -> FinishReason | None:
        """Append what is forced, and have it computed; the reason if that ends the request.

        The last output token must not have been sent yet.
        """
        assert req.matcher is not None
        try:
            found = self._find(req)
        except RequestError as error:
            return abort_reason(error)
        if found is None:
            return None
        num_replaced, ids = found
        num_known = req.num_tokens - num_replaced
        if num_replaced:
            req.output_ids.pop()
        num_before = len(req.output_ids)
        reason = self._stops.append(req, ids, are_accepted=True)
        if req.decode_logprobs is not None:
            req.num_unscored += len(req.output_ids) - num_before
        if reason is None:
            self._execution.requeue(req, num_known)
        return reason

    def _find(self, req: Req) -> tuple[int, list[int]] | None:
        """How many tokens to replace and which to append, the matcher being moved on; ``None``: nothing."""
        matcher = req.matcher
        assert matcher is not None
        text = matcher.forced_text()
        # A token spells no more than a few characters; most forced texts end after a quote or a bracket.
        if len(text) < self._least:
            return None
        # A token whose log-probability was told, and whose text was looked at, stays.
        can_replace = req.decode_logprobs is None and req.stop_text is None
        num_replaced, ids = retokenise(self._get_tokenizer(), req.output_ids, text, can_replace=can_replace)
        # At least one more is sampled, so that what is appended gets its log-probabilities.
        room = req.max_new_tokens - len(req.output_ids) + num_replaced - (req.decode_logprobs is not None)
        ids = ids[: max(0, min(room, len(ids) - 1))]
        if req.decode_logprobs is not None and (req.stop_text is not None or not req.end_ids.isdisjoint(ids)):
            return None
        if len(ids) - num_replaced < self._least:
            return None
        if num_replaced:
            matcher.rollback(num_replaced)
        num_accepted = 0
        while num_accepted < len(ids) and matcher.accept_token(ids[num_accepted]):
            num_accepted += 1
        if num_accepted == len(ids) and not matcher.is_terminated:
            return num_replaced, ids
        # The grammar cuts the text otherwise than the tokenizer does, or the text is its end.
        matcher.rollback(num_accepted)
        if num_replaced:
            matcher.accept_token(req.output_ids[-1])
        return None


def retokenise(
    tokenizer: Tokenizer, output_ids: Sequence[int], text: bytes, *, can_replace: bool
) -> tuple[int, list[int]]:
    """The tokens of ``text`` behind the output: how many of the last output tokens they replace (0, or with
    ``can_replace`` 1), and the tokens. None where the tokenizer cannot write the text."""
    for length in _CONTEXTS:
        tail = list(output_ids[-length:])
        if len(tail) < length and length != _CONTEXTS[0]:
            break
        # At the beginning of the output there is no context.
        num_context = 1 if len(output_ids) > len(tail) else 0
        ids = _encoded(tokenizer, _spelled(tokenizer, tail) + text)
        if ids and ids[num_context : len(tail)] == tail[num_context:]:
            return 0, _plain(tokenizer, ids[len(tail) :])
        last = len(tail) - 1
        if can_replace and last >= num_context and ids[num_context:last] == tail[num_context:last]:
            new = _plain(tokenizer, ids[last:])
            if _spelled(tokenizer, new) == tokenizer.token_bytes(tail[-1]) + text:
                return 1, new
    return 0, _plain(tokenizer, _encoded(tokenizer, text))


def _encoded(tokenizer: Tokenizer, text: bytes) -> list[int]:
    """The tokens of a text; none if they do not spell exactly its bytes."""
    try:
        ids = tokenizer.encode(text.decode(), add_special_tokens=False)
    except UnicodeDecodeError:
        return []
    return ids if _spelled(tokenizer, ids) == text else []


def _plain(tokenizer: Tokenizer, ids: list[int]) -> list[int]:
    """Tokens up to the first special one: text that a grammar forces holds none, whatever it spells."""
    special = tokenizer.special_ids
    return list(takewhile(lambda token_id: token_id not in special, ids))


def _spelled(tokenizer: Tokenizer, ids: Sequence[int]) -> bytes:
    return b"".join(map(tokenizer.token_bytes, ids))
