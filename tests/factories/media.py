"""Media of requests, without pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hookline.messages.requests import MediaItem, MediaTensor, MultimodalInputs
from hookline.testkit.fake_tokens import expected_output, row_token
from hookline.testkit.fake_worker import FakeWorker
from hookline.testkit.scheduling import VOCAB_SIZE, Harness

#: What stands for a row of any picture in a prompt.
PLACEHOLDER = 90
ROW_BYTES = 10


def digest(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


@dataclass
class Prompt:
    """Tokens and pictures, put together from left to right."""

    input_ids: list[int] = field(default_factory=list)
    items: list[MediaItem] = field(default_factory=list)

    def text(self, *tokens: int) -> Prompt:
        self.input_ids += tokens
        return self

    def picture(self, name: str, *lengths: int, cost: int = 4, given: bytes | None = None) -> Prompt:
        """A picture of so many rows, in runs with a token between them; its digest follows from its name."""
        spans: list[tuple[int, int]] = []
        for length in lengths:
            if spans:
                self.input_ids.append(5)
            spans.append((len(self.input_ids), length))
            self.input_ids += [PLACEHOLDER] * length
        tensor = MediaTensor(name="pixels", dtype="uint8", shape=(2,), data=np.zeros(2, dtype=np.uint8))
        found = digest(name) if given is None else given
        item = MediaItem(
            kind="image", digest=found, spans=spans, grid=(1,), num_rows=sum(lengths), cost=cost, tensors=[tensor]
        )
        self.items.append(item)
        return self

    def positions(self, planes: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        """[P, T]: the rows of a picture stand at one position, as far as the first plane goes."""
        counted = np.zeros((planes, len(self.input_ids)), dtype=np.int64)
        inside = {start + k for item in self.items for start, length in item.spans for k in range(1, length)}
        place = -1
        for t in range(len(self.input_ids)):
            place += t not in inside
            counted[:, t] = place
            counted[1:, t] += t % 2 if t in inside else 0
        return np.minimum(counted, place)

    def inputs(self, planes: int = 1) -> MultimodalInputs:
        if planes == 1:
            return MultimodalInputs(items=self.items)
        positions = self.positions(planes)
        delta = int(positions.max()) + 1 - len(self.input_ids)
        return MultimodalInputs(items=self.items, positions=positions.tobytes(), position_delta=delta)

    def expected(self, num_tokens: int) -> list[int]:
        """What the fake device answers."""
        tokens = list(self.input_ids)
        for item in self.items:
            row = 0
            for start, length in item.spans:
                tokens[start : start + length] = [row_token(item.digest, row + k) for k in range(length)]
                row += length
        return expected_output(tokens, num_tokens, VOCAB_SIZE)


def media_worker(**options: Any) -> FakeWorker:
    """A fake device with a generous encoder cache."""
    options.setdefault("embedding_cache_bytes", 10_000)
    return FakeWorker(embedding_row_bytes=ROW_BYTES, **options)


def send(harness: Harness, rid: str, prompt: Prompt, num_tokens: int = 6, **options: Any) -> None:
    """Send a prompt with its pictures."""
    worker = harness.worker
    planes = worker.info.position_planes
    worker.media[rid] = [(item.digest, item.spans) for item in prompt.items]
    if planes > 1:
        worker.positions[rid] = prompt.positions(planes)
    harness.add(rid, prompt.input_ids, num_tokens, multimodal=prompt.inputs(planes), **options)


def cached_tokens(harness: Harness, rids: Sequence[str]) -> list[int]:
    """Tokens that each request did not have to compute."""
    stats = [harness.outputs[rid].stats for rid in rids]
    return [entry.cached_tokens for entry in stats if entry is not None]
