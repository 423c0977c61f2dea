"""EngineCore: scheduler, worker and detokenizer in one process and one thread, moved along by ``step``."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from hookline.config.engine_plan import EnginePlan
from hookline.errors import EngineDeadError, HooklineError, RequestError
from hookline.frontend.detokenizer_manager import DetokenizerManager
from hookline.interfaces.api import Chunk
from hookline.messages.control import ControlReply, ControlRequest
from hookline.messages.outputs import BatchEmbeddingOutput, BatchTextOutput, BatchTokenOutput
from hookline.messages.requests import AbortReq, TokenizedRequest
from hookline.messages.transport import LocalChannel
from hookline.observability.timeline import Timeline
from hookline.scheduler.factory import build_scheduler
from hookline.text.tokenizer import Tokenizer
from hookline.worker.factory import build_worker

#: Told of loading progress: (what, done, total).
Progress = Callable[[str, int, int], None]


class EngineCore:
    """The parts that a server spreads over processes, here over ``LocalChannel`` in the caller's thread."""

    def __init__(
        self,
        plan: EnginePlan,
        tokenizer: Tokenizer | None,
        progress: Progress | None = None,
        timeline: Timeline | None = None,
    ) -> None:
        self._requests: LocalChannel[TokenizedRequest | AbortReq | ControlRequest] = LocalChannel()
        self._outputs: LocalChannel[Any] = LocalChannel()
        self._worker = build_worker(plan, progress=progress, timeline=timeline)
        self._scheduler = build_scheduler(plan, self._worker, self._requests, self._outputs)
        self._detokenizer = DetokenizerManager(tokenizer)
        self._control_ids = itertools.count(1)
        self._replies: dict[int, ControlReply] = {}
        #: Chunks that a control call met on its way; the next ``step`` gives them first.
        self._early: list[Chunk] = []
        self._choice_of: dict[str, int] = {}
        self._failure: BaseException | None = None

    def submit(self, requests: Sequence[TokenizedRequest]) -> None:
        """Queue requests; their chunks come from ``step``."""
        for request in requests:
            self._choice_of[request.rid] = request.choice_index
            self._requests.send(request)

    def abort(self, rids: Sequence[str]) -> None:
        """Cancel requests; those that still live end with a chunk of type "abort"."""
        live = [rid for rid in rids if rid in self._choice_of]
        if live:
            self._requests.send(AbortReq(rids=live))

    @property
    def num_live(self) -> int:
        """Requests that were submitted and have not ended."""
        return len(self._choice_of)

    def step(self) -> list[Chunk]:
        """Run the scheduler once and give what came out of it.

        Raises ``EngineDeadError`` from the first failure on: a pass that broke half-way leaves pools in
        an unknown state.
        """
        if self._failure is not None:
            raise EngineDeadError(f"the engine failed before: {self._failure}") from self._failure
        try:
            self._scheduler.step()
        except HooklineError as exc:
            self._failure = exc
            raise
        except Exception as exc:
            self._failure = exc
            raise EngineDeadError(f"the engine failed: {type(exc).__name__}: {exc}") from exc
        chunks, self._early = self._early, []
        for message in self._outputs.receive():
            chunks.extend(self._translate(message))
        return chunks

    def control(self, method: str, **arguments: Any) -> dict[str, Any]:
        """Run a control request (see ``ControlRequest``) and give its data.

        Raises ``RequestError`` with the scheduler's message when it refuses.
        """
        ident = next(self._control_ids)
        self._requests.send(ControlRequest(id=ident, method=method, arguments=arguments))
        while ident not in self._replies:
            self._early.extend(self.step())
        reply = self._replies.pop(ident)
        if not reply.ok:
            raise RequestError(reply.message)
        return reply.data

    def close(self) -> None:
        """Free the device."""
        self._worker.close()

    def _translate(self, message: object) -> list[Chunk]:
        if isinstance(message, ControlReply):
            self._replies[message.id] = message
            return []
        if isinstance(message, BatchTokenOutput):
            return self._text_chunks(self._detokenizer.process(message))
        if isinstance(message, BatchEmbeddingOutput):
            return self._embedding_chunks(message)
        return []  # SchedulerStats: nobody watches an engine in a script

    def _text_chunks(self, output: BatchTextOutput) -> list[Chunk]:
        chunks = []
        for i, rid in enumerate(output.rids):
            finish = output.finish_reasons[i]
            index = self._choice_of.get(rid, 0) if finish is None else self._choice_of.pop(rid, 0)
            chunks.append(
                Chunk(
                    rid=rid,
                    index=index,
                    text=output.texts[i],
                    token_ids=output.token_ids[i],
                    finish_reason=finish,
                    stats=output.stats[i],
                    output_logprobs=output.output_logprobs[i] if output.output_logprobs else None,
                    input_logprobs=output.input_logprobs[i] if output.input_logprobs else None,
                )
            )
        return chunks

    def _embedding_chunks(self, output: BatchEmbeddingOutput) -> list[Chunk]:
        return [
            Chunk(
                rid=rid,
                index=self._choice_of.pop(rid, 0),
                text="",
                token_ids=[],
                finish_reason=finish,
                stats=stats,
                embedding=embedding,
            )
            for rid, embedding, finish, stats in zip(
                output.rids, output.embeddings, output.finish_reasons, output.stats, strict=True
            )
        ]
