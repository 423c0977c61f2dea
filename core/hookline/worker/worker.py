"""LocalWorker: the worker of this process; implements ``hookline.interfaces.worker.Worker``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from hookline.batch.encoder_orders import EncoderOrders
from hookline.batch.worker_batch import ModelWorkerBatch
from hookline.errors import RequestError
from hookline.interfaces.lora import LoRABackend
from hookline.interfaces.worker import Step, WorkerInfo
from hookline.platform import WorkQueue
from hookline.worker.encoder_store import EncoderStore
from hookline.worker.kv_pool import KVPool
from hookline.worker.step import StepRunner
from hookline.worker.weights import Weights

MEMORY_TAGS = ("kv", "weights")


class LocalWorker:
    """One rank's device. Whatever touches it goes through the work queue, behind the passes launched before."""

    def __init__(
        self,
        info: WorkerInfo,
        steps: StepRunner,
        weights: Weights,
        kv: KVPool,
        queue: WorkQueue,
        encoder: EncoderStore,
        lora: LoRABackend | None,
    ) -> None:
        self._info = info
        self._steps = steps
        self._weights = weights
        self._kv = kv
        self._queue = queue
        self._encoder = encoder
        self._lora = lora

    @property
    def info(self) -> WorkerInfo:
        """What the scheduler needs to know."""
        return self._info

    def launch(self, batch: ModelWorkerBatch) -> Step:
        """Start a pass; see the interface."""
        if not (self._weights.is_loaded and self._kv.is_allocated):
            raise RuntimeError("memory was released (release_memory); resume it before anything runs")
        return self._steps.launch(batch)

    def encode(self, orders: EncoderOrders) -> None:
        """Move, drop and make embedding rows of media; see the interface."""
        # The senders' arrays may be gone when the queue comes to it.
        items = self._encoder.copy_in(orders.encode)
        self._queue.submit(lambda: self._encoder.carry_out(orders, items))

    @property
    def encoder_faults(self) -> Mapping[bytes, str]:
        """Digest -> what went wrong, of items that were to be encoded and have no rows."""
        return self._encoder.faults

    def load_adapter(self, slot: int, name: str, path: Path) -> None:
        """Load a PEFT directory into a slot from 1; ``ModelError`` for what is wrong with it."""
        lora = self._need_lora()
        self._run(lambda: lora.load(slot, name, path))

    def unload_adapter(self, slot: int) -> None:
        """Free a slot."""
        lora = self._need_lora()
        self._run(lambda: lora.unload(slot))

    def update_weights(self, path: Path) -> None:
        """Replace the weights; ``ModelError``, and the old ones stay, for a checkpoint that does not fit."""
        self._run(lambda: self._weights.update(path))
        self._steps.prepare()

    def release_memory(self, tags: Iterable[str]) -> None:
        """Give back the memory of "kv" (what was cached is lost) or "weights"; the engine must be idle."""
        for tag in _checked(tags):
            self._run(self._kv.release if tag == "kv" else self._weights.release)

    def resume_memory(self, tags: Iterable[str]) -> None:
        """Take it again. Weights are read again from where they came from."""
        for tag in _checked(tags):
            if tag == "weights":
                self._run(self._weights.resume)
            elif not self._kv.is_allocated:
                self._run(self._kv.allocate)
        if self._weights.is_loaded and self._kv.is_allocated:
            self._steps.prepare()

    def close(self) -> None:
        """Finish what was launched and give everything back."""
        self._queue.close()
        self._kv.release()
        self._weights.release()

    def _run(self, work: Callable[[], None]) -> None:
        self._queue.submit(work).wait()

    def _need_lora(self) -> LoRABackend:
        if self._lora is None:
            raise RequestError("this engine has no LoRA backend; set lora.lora_backend to use adapters")
        return self._lora


def _checked(tags: Iterable[str]) -> list[str]:
    found = list(tags)
    for tag in found:
        if tag not in MEMORY_TAGS:
            raise RequestError(f"unknown memory tag '{tag}' (known: {', '.join(MEMORY_TAGS)})", param="tags")
    return found
