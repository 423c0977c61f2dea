"""EngineMail: hands each reader of an engine its own chunks, whoever steps the engine."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence

from hookline.engine_core import EngineCore
from hookline.errors import RequestError
from hookline.interfaces.api import Chunk
from hookline.media.prepared import PreparedMedia
from hookline.messages.requests import TokenizedRequest
from hookline.outputs import ChoiceBuilder


class EngineMail:
    """Several readers may be open at once; each steps the engine when nothing waits for it."""

    def __init__(self, core: EngineCore) -> None:
        self._core = core
        #: rid -> chunks that another reader's step met.
        self._waiting: dict[str, list[Chunk]] = {}

    def chunks(
        self,
        choices: Mapping[str, ChoiceBuilder],
        built: Sequence[TokenizedRequest],
        media: Sequence[PreparedMedia],
    ) -> Generator[Chunk, None, None]:
        """Send the requests and give their chunks until all have ended; aborts what is left on an early stop."""
        open_rids = set(choices)
        for rid in choices:
            self._waiting[rid] = []
        try:
            self._core.submit(built)
            while open_rids:
                for chunk in self._receive(open_rids):
                    finish = chunk.finish_reason
                    if finish is not None:
                        open_rids.discard(chunk.rid)
                        if finish.type == "abort":
                            raise RequestError(finish.message, code=finish.code or None, status_code=finish.status_code)
                    choices[chunk.rid].add(chunk)
                    yield chunk
        finally:
            self._core.abort(sorted(open_rids))
            for rid in choices:
                self._waiting.pop(rid, None)
            for own in media:
                own.release()

    def _receive(self, rids: set[str]) -> list[Chunk]:
        """Waiting chunks of these requests, in order; steps the engine when there is none."""
        if not any(self._waiting[rid] for rid in rids):
            for chunk in self._core.step():
                if chunk.rid in self._waiting:
                    self._waiting[chunk.rid].append(chunk)
        found = []
        for rid in list(rids):
            found.extend(self._waiting[rid])
            self._waiting[rid] = []
        return found
