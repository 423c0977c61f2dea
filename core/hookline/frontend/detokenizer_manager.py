"""DetokenizerManager: turns the scheduler's token columns into text columns."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from hookline.frontend.request_text import RequestText
from hookline.messages.outputs import BatchTextOutput, BatchTokenOutput, FinishReason
from hookline.text.tokenizer import Tokenizer

_log = logging.getLogger(__name__)


class DetokenizerManager:
    """Holds the text of every running request and gives deltas. Used from one thread.

    State begins with a request's first output and ends with its finish reason, "abort" included. Without a
    tokenizer all texts are empty.
    """

    def __init__(self, tokenizer: Tokenizer | None) -> None:
        self._tokenizer = tokenizer
        self._texts: dict[str, RequestText] = {}

    @property
    def num_live(self) -> int:
        """Requests whose text is kept."""
        return len(self._texts)

    def process(self, output: BatchTokenOutput) -> BatchTextOutput:
        """The same columns with text deltas beside the token ids."""
        if self._tokenizer is not None:
            for start in output.starts:
                self._texts[start.rid] = RequestText(self._tokenizer, start)
        return BatchTextOutput(
            rids=output.rids,
            texts=[
                self._add(rid, token_ids, finish)
                for rid, token_ids, finish in zip(output.rids, output.token_ids, output.finish_reasons, strict=True)
            ],
            token_ids=output.token_ids,
            finish_reasons=output.finish_reasons,
            stats=output.stats,
            output_logprobs=output.output_logprobs,
            input_logprobs=output.input_logprobs,
        )

    def _add(self, rid: str, token_ids: Sequence[int], finish: FinishReason | None) -> str:
        if self._tokenizer is None:
            return ""
        text = self._texts.get(rid)
        if text is None:
            # A request that ends before its first token never started here.
            if token_ids:
                _log.error("request %s has ended or never started; %d tokens of it are not shown", rid, len(token_ids))
            return ""
        delta = text.add(token_ids, finish)
        if finish is not None:
            del self._texts[rid]
        return delta
