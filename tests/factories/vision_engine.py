"""VisionEngine: scheduler and worker of a checkpoint, fed with prompts that are tokens and pictures already."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hookline.config.resolve import resolve_engine
from hookline.config.sources import load_config
from hookline.engine_core import EngineCore
from hookline.interfaces.api import Chunk
from hookline.messages.outputs import RequestStats
from hookline.messages.requests import TokenizedRequest
from hookline.plugins.manager import load_plugins
from hookline.sampling_params import SamplingParams
from tests.factories.vision import VisionPrompt


class VisionEngine:
    """One engine core; requests run together until all have ended."""

    def __init__(self, path: Path, **settings: Any) -> None:
        settings = {"dtype": "float32", "check_ledger": True, "skip_tokenizer_init": True, **settings}
        loaded = load_config(keywords={"model": str(path), **settings})
        self._core = EngineCore(resolve_engine(loaded.config, load_plugins(loaded.config)), None)
        self._numbers = itertools.count()
        self.stats: dict[str, RequestStats] = {}
        self.finishes: dict[str, Any] = {}

    def generate(
        self,
        prompts: Sequence[VisionPrompt],
        num_tokens: int,
        *,
        abort: Mapping[int, int] = MappingProxyType({}),
        **params: Any,
    ) -> list[list[int]]:
        """Greedy output of all prompts, computed together; ``abort``: index of a prompt -> steps until its end."""
        rids = [self._submit(prompt, num_tokens, **params) for prompt in prompts]
        output: dict[str, list[int]] = {rid: [] for rid in rids}
        for step in itertools.count():
            self._core.abort([rids[index] for index, end in abort.items() if end == step])
            if not self._core.num_live:
                break
            for chunk in self._core.step():
                self._take(chunk, output)
        return [output[rid] for rid in rids]

    def watch(self, prompt: VisionPrompt, num_tokens: int, *, joined_by: Sequence[VisionPrompt]) -> Iterator[int]:
        """Begin a stream, then send others; gives the tokens of the stream that each step brought."""
        rid = self._submit(prompt, num_tokens, stream=True)
        output: dict[str, list[int]] = {rid: []}
        while not output[rid]:
            for chunk in self._core.step():
                self._take(chunk, output)
        for other in joined_by:
            output[self._submit(other, 2)] = []
        while rid not in self.finishes:
            before = len(output[rid])
            for chunk in self._core.step():
                self._take(chunk, output)
            yield len(output[rid]) - before
        while self._core.num_live:
            self._core.step()

    def _submit(self, prompt: VisionPrompt, num_tokens: int, *, stream: bool = False, **params: Any) -> str:
        rid = f"r{next(self._numbers)}"
        params = {"temperature": 0.0, "max_new_tokens": num_tokens, "min_new_tokens": num_tokens, **params}
        request = TokenizedRequest(
            rid=rid,
            input_ids=prompt.input_ids,
            multimodal=prompt.inputs if prompt.inputs.items else None,
            sampling_params=SamplingParams(**params),
            stream=stream,
        )
        self._core.submit([request])
        return rid

    @property
    def state(self) -> dict[str, Any]:
        return self._core.control("server_state")

    def close(self) -> None:
        self._core.close()

    def _take(self, chunk: Chunk, output: dict[str, list[int]]) -> None:
        output[chunk.rid] += chunk.token_ids
        if chunk.stats is not None:
            self.stats[chunk.rid] = chunk.stats
        if chunk.finish_reason is not None:
            self.finishes[chunk.rid] = chunk.finish_reason
