"""Memory: from what was measured to a ledger, and from the ledger to the number of KV slots."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hookline.errors import MemoryBudgetError

if TYPE_CHECKING:
    from hookline.config.model_config import ModelConfig
    from hookline.config.schema import CacheConfig

GIB = 1 << 30
#: KV cache on a CPU unless the config asks for more: main memory is shared with everything else.
CPU_KV_LIMIT = 4 * GIB
_TERMS = ("weights", "kv", "activations", "graphs", "embeddings", "tables", "rest")
#: Requests in one batch unless the config says otherwise.
DEFAULT_MAX_RUNNING = {"cpu": 64, "cuda": 256}


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryDemand:
    """What was measured, in bytes unless said otherwise."""

    #: Free memory before the weights came.
    free: int
    weights: int
    #: Peak of one pass of ``pass_tokens`` tokens, sampling included.
    activations: int
    pass_tokens: int
    #: Captured passes: what they keep beside weights and KV cache.
    graphs: int = 0
    #: Embedding rows of media.
    embeddings: int = 0
    #: Slots of all requests, their last tokens, and the like.
    tables: int = 0
    #: What may be lost when the planes of the KV cache are rounded up to what the device hands out.
    rounding: int = 0
    #: KV of one token in all layers.
    bytes_per_token: int
    page_size: int
    max_running_requests: int
    max_context_len: int
    #: Upper bound on the KV cache when the config names no size; ``None``: no bound but memory.
    kv_limit: int | None = None

    @property
    def taken(self) -> int:
        """What is there whatever the size of the KV cache."""
        return self.weights + self.activations + self.graphs + self.embeddings + self.tables

    @property
    def room(self) -> int:
        """What is left for the KV cache if all memory is used."""
        return self.free - self.taken - self.rounding

    @property
    def taken_text(self) -> str:
        """The terms of ``taken``, for messages."""
        text = f"weights {self.weights / GIB:.2f} + activations {self.activations / GIB:.2f}"
        for name in ("graphs", "embeddings", "tables"):
            if amount := getattr(self, name):
                text += f" + {name} {amount / GIB:.2f}"
        return text


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryLedger:
    """Where the memory goes, in bytes. The terms add up to ``free``."""

    free: int
    weights: int
    kv: int
    activations: int
    graphs: int
    embeddings: int
    tables: int
    rest: int
    #: Slots for requests; a multiple of the page size.
    num_tokens: int

    def terms(self) -> dict[str, int]:
        """The terms by name."""
        return {name: getattr(self, name) for name in _TERMS}

    def with_graphs(self, graphs: int) -> MemoryLedger:
        """The ledger with what the graphs took in the end; the rest makes up for the difference."""
        return replace(self, graphs=graphs, rest=self.rest + self.graphs - graphs)

    def __str__(self) -> str:
        terms = " + ".join(f"{name} {amount / GIB:.2f}" for name, amount in self.terms().items())
        return f"memory: {self.free / GIB:.2f} GiB free = {terms} GiB; KV cache of {self.num_tokens} tokens"


def plan_memory(cache: CacheConfig, demand: MemoryDemand) -> MemoryLedger:
    """Decide the size of the KV cache.

    ``kv_cache_tokens`` or ``kv_cache_gib`` decide if given; else the cache gets what ``memory_fraction`` of
    the free memory leaves beside weights and activations, but no more than all running requests could fill
    and no more than ``kv_limit``. One page more than the tokens is taken for the sink.

    Raises ``MemoryBudgetError`` naming the term that does not fit and the largest value that would.
    """
    check_weights(demand.weights, demand.free)
    room = demand.room
    if room < _bytes(1, demand):
        raise MemoryBudgetError(_activation_message(demand))
    if cache.kv_cache_tokens is not None:
        num_tokens = _explicit(cache.kv_cache_tokens, f"kv_cache_tokens={cache.kv_cache_tokens}", room, demand)
    elif cache.kv_cache_gib is not None:
        asked = _tokens(int(cache.kv_cache_gib * GIB), demand)
        num_tokens = _explicit(asked, f"kv_cache_gib={cache.kv_cache_gib:g}", room, demand)
    else:
        num_tokens = _automatic(cache.memory_fraction, demand)
    kv = _kv_bytes(num_tokens, demand)
    return MemoryLedger(
        free=demand.free,
        weights=demand.weights,
        kv=kv,
        activations=demand.activations,
        graphs=demand.graphs,
        embeddings=demand.embeddings,
        tables=demand.tables,
        rest=demand.free - demand.taken - kv,
        num_tokens=num_tokens,
    )


def check_weights(weights: int, free: int) -> None:
    """Refuse a model whose weights alone exceed the free memory. The worker asks before it reads them."""
    if weights > free:
        raise MemoryBudgetError(
            f"the weights take {weights / GIB:.2f} GiB, but only {free / GIB:.2f} GiB of memory are free; "
            "use a smaller model, a smaller dtype (model.dtype), or free memory"
        )


def estimate_activations(model: ModelConfig, *, num_tokens: int, num_rows: int, itemsize: int) -> int:
    """Bytes of one pass of ``num_tokens`` tokens whose last layer gives logits for ``num_rows`` rows.

    Counts the tensors that live at once in the widest layer, and the float32 copies that sampling makes.
    """
    attention = 2 * (model.num_q_heads + model.num_kv_heads) * model.head_dim
    mlp = 3 * model.intermediate_size
    if model.moe is not None:
        mlp = max(mlp, 3 * model.moe.top_k * model.moe.intermediate_size)
    layers = num_tokens * (4 * model.hidden_size + max(attention, mlp)) * itemsize
    # Logits, their probabilities and the running sum in float64, and masks.
    sampling = num_rows * model.vocab_size * (itemsize + 4 + 4 + 8 + 2)
    return max(layers, num_tokens * model.hidden_size * itemsize + sampling)


def _bytes(num_pages: int, demand: MemoryDemand) -> int:
    """Bytes of a cache of so many pages and the sink."""
    return (num_pages + 1) * demand.page_size * demand.bytes_per_token


def _kv_bytes(num_tokens: int, demand: MemoryDemand) -> int:
    return _bytes(num_tokens // demand.page_size, demand)


def _tokens(num_bytes: int, demand: MemoryDemand) -> int:
    """Tokens, in whole pages, that a cache of so many bytes holds beside the sink."""
    pages = num_bytes // (demand.page_size * demand.bytes_per_token)
    return max(0, pages - 1) * demand.page_size


def _explicit(asked: int, setting: str, room: int, demand: MemoryDemand) -> int:
    num_tokens = asked // demand.page_size * demand.page_size
    largest = _tokens(room, demand)
    fits = f"kv_cache_tokens={largest} (kv_cache_gib={_kv_bytes(largest, demand) / GIB:.2f})"
    if num_tokens < 1:
        raise MemoryBudgetError(
            f"{setting} is less than one page of {demand.page_size} tokens; the largest that fits is {fits}"
        )
    if num_tokens > largest:
        raise MemoryBudgetError(
            f"the KV cache does not fit: {setting} takes {_kv_bytes(num_tokens, demand) / GIB:.2f} GiB, and "
            f"{demand.free / GIB:.2f} GiB free without {demand.taken_text} leave {room / GIB:.2f} GiB; the largest "
            f"that fits is {fits}"
        )
    return num_tokens


def _automatic(fraction: float, demand: MemoryDemand) -> int:
    budget = min(int(demand.free * fraction) - demand.taken, demand.room)
    if demand.kv_limit is not None:
        budget = min(budget, demand.kv_limit)
    num_tokens = _tokens(budget, demand)
    page = demand.page_size
    per_request = -(-demand.max_context_len // page) * page
    num_tokens = min(num_tokens, demand.max_running_requests * per_request)
    if num_tokens < page:
        least = (demand.taken + _bytes(1, demand)) / demand.free
        raise MemoryBudgetError(
            f"the KV cache does not fit: memory_fraction={fraction:g} of {demand.free / GIB:.2f} GiB free is "
            f"{demand.free * fraction / GIB:.2f} GiB, and {demand.taken_text} GiB leave less than one page of {page} "
            f"tokens; it takes "
            f"memory_fraction={least:.3f} or more, or a size in cache.kv_cache_tokens of at most "
            f"{_tokens(demand.room, demand)}"
        )
    return num_tokens


def _activation_message(demand: MemoryDemand) -> str:
    room = demand.free - demand.weights - demand.graphs - demand.embeddings - _bytes(1, demand)
    per_token = max(1, demand.activations // max(1, demand.pass_tokens))
    largest = max(0, room // per_token)
    return (
        f"the activations do not fit: a pass of {demand.pass_tokens} tokens takes "
        f"{demand.activations / GIB:.2f} GiB beside weights of {demand.weights / GIB:.2f} GiB, and "
        f"{demand.free / GIB:.2f} GiB are free; the largest schedule.max_prefill_tokens that fits is about {largest}"
    )
