"""Attention backends: plan once per pass, then run once per layer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from hookline.interfaces.spec import Spec

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    from hookline.batch.forward_batch import AttentionGeometry


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionBackendSpec(Spec):
    """An attention backend. ``target`` is a subclass of ``AttentionBackend``, called with an ``AttentionEnv``.

    CAUSAL masks, extend with and without prefix, decode, and grouped-query heads are the base contract; the rest are
    ``known_features``.
    """

    kind: ClassVar[str] = "attention_backends"
    target_base: ClassVar[str] = "hookline.interfaces.attention:AttentionBackend"
    known_features: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "mask.full": "every token sees every token of its request",
            "mask.window": "only the last tokens are seen, as many as the layer says",
            "mask.tree": "tokens of one request branch, and see their own branch",
            "softcap": "scores are bounded by a scaled tanh",
            "sinks": "a learned score per head joins the softmax",
            "graphs": "a pass can be captured in a device graph and replayed",
            "mixed": "extend and decode in one pass",
            "deterministic": "the same bits for a token alone, in any batch, and in chunks of any size",
        }
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionLayerInfo:
    """What a backend knows of one attention layer."""

    layer_id: int
    num_q_heads: int
    num_kv_heads: int
    head_dim: int
    v_head_dim: int
    #: Factor on the scores, usually head_dim ** -0.5.
    scale: float
    #: Only the last so many tokens are seen; ``None``: all.
    window: int | None = None
    #: Scores become softcap * tanh(score / softcap) before masks apply.
    softcap: float | None = None
    #: [num_q_heads] float32: a logit of each head that takes its share of the softmax and has no value.
    sinks: torch.Tensor | None = field(default=None, compare=False)


class KVPool(Protocol):
    """The KV cache as planes. Slot 0 (page 0) is a sink for padding and never belongs to a request."""

    def planes(self, layer_id: int) -> tuple[torch.Tensor, torch.Tensor]:
        """K [slots, kv_heads, head_dim] and V [slots, kv_heads, v_head_dim] of a layer; views, written in place."""
        ...

    def store(self, layer_id: int, loc: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> None:
        """Write k and v [T, kv_heads, dim] at slots ``loc`` [T]."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionEnv:
    """Fixed facts, known when the backend is made."""

    device: torch.device
    dtype: torch.dtype
    page_size: int
    num_q_heads: int
    num_kv_heads: int
    head_dim: int
    max_context_len: int
    max_running_requests: int
    #: Same numbers for the same request whatever else is in the batch.
    deterministic: bool = False
    #: Directory for what the backend compiles; ``None``: where its library keeps it anyway.
    kernel_cache_dir: str | None = None
    #: The plugin's own options (its config model) or ``None``.
    options: Any = None


class AttentionBackend(ABC):
    """Runs attention over the paged KV cache.

    The worker makes one backend per rank and calls it from one thread. For each pass it calls ``plan``
    once, then every attention layer calls ``forward``. K and V of the pass are already stored in the pool
    when ``forward`` is called.
    """

    def __init__(self, env: AttentionEnv) -> None:
        self.env = env

    @abstractmethod
    def plan(self, geometry: AttentionGeometry) -> Any:
        """Prepare one pass from the host's lengths; the answer comes back as ``plan`` in ``forward``.

        Must not wait for the device. Work that a graph could capture belongs to ``prepare``.
        """

    def prepare(self, plan: Any, geometry: AttentionGeometry) -> None:  # noqa: B027 - optional
        """Device half of planning: launches kernels only, reads no host value, so a graph can capture it.

        With the feature "graphs", this and the layers' ``forward`` are captured for a pass that ``plan_capture``
        planned. Later only the contents of the geometry's device tensors change, in place.
        """

    def plan_capture(self, geometry: AttentionGeometry) -> Any:
        """Plan a DECODE pass that is captured in a graph and replayed; needed with the feature "graphs" only.

        Host lengths are upper bounds: any batch of that size is replayed, and finds its lengths in the geometry's
        device tensors. By default what ``plan`` gives, which does where nothing but bounds comes from the host.
        """
        return self.plan(geometry)

    def replan(self, plan: Any, seq_lens_cpu: npt.NDArray[np.int64]) -> None:  # noqa: B027 - optional
        """Host half of planning a replay: called in the work queue right before it, with the plan that was captured.

        ``seq_lens_cpu`` [B] int64 are the lengths that the device tensors are about to have, 1 for padding; it is
        the caller's memory.
        A backend whose kernels read a schedule made on the host writes it into the plan's own tensors here, in the
        current stream; it must not wait for the device. Does nothing by default.
        """

    @abstractmethod
    def forward(
        self,
        q_THD: torch.Tensor,
        k_TKD: torch.Tensor,
        v_TKD: torch.Tensor,
        layer: AttentionLayerInfo,
        kv: KVPool,
        plan: Any,
    ) -> torch.Tensor:
        """Attention output [T, num_q_heads, v_head_dim] in q's dtype.

        Requests lie one after the other along T in the order of the geometry. q, k, v are those of the new
        tokens; those of the prefix are in ``kv``.
        """
