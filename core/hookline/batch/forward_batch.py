"""ForwardBatch: one pass on the device, as models and attention backends see it.

Shape letters: B requests, T tokens, P position planes, R rows of the table, C its columns, V vocabulary,
N placed embedding rows, E elements of each.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from hookline.batch.forward_mode import ForwardMode
    from hookline.interfaces.attention import AttentionBackend, KVPool


class MaskKind(Enum):
    """Which earlier tokens a query sees."""

    #: Itself and everything before it.
    CAUSAL = "causal"
    #: Every token of its sequence (encoders, vision towers).
    FULL = "full"
    #: Itself and the ``window`` - 1 tokens before it.
    WINDOW = "window"
    #: The prefix, and of the new tokens those that ``tree_mask`` allows.
    TREE = "tree"


@dataclass(slots=True, kw_only=True)
class AttentionGeometry:
    """All that an attention backend may know of a pass. Device tensors are plain, host twins end in _cpu."""

    mode: ForwardMode
    #: [R, C] int32 slot of each token of each request row.
    req_to_token: torch.Tensor
    #: [B] int64.
    req_pool_indices: torch.Tensor
    #: [B] int64, including the tokens of this pass.
    seq_lens: torch.Tensor
    #: [B] int64, tokens before this pass.
    prefix_lens: torch.Tensor
    seq_lens_cpu: list[int]
    prefix_lens_cpu: list[int]
    extend_lens_cpu: list[int]
    #: [T] int64 slots that this pass writes.
    out_cache_loc: torch.Tensor
    page_size: int
    mask: MaskKind = MaskKind.CAUSAL
    window: int | None = None
    #: [T, max extend] bool when mask is TREE.
    tree_mask: torch.Tensor | None = None

    @property
    def batch_size(self) -> int:
        return len(self.seq_lens_cpu)

    @property
    def num_tokens(self) -> int:
        return sum(self.extend_lens_cpu)


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderRows:
    """Embedding rows of media and their places in a pass."""

    #: [N] int64 places among the T tokens, ascending; what ``input_ids`` have there is a placeholder.
    places: torch.Tensor
    #: [N, E] in the compute dtype, as ``Model.encode`` made them.
    rows: torch.Tensor


@dataclass(slots=True, kw_only=True)
class ForwardBatch:
    """One pass on the device. Models read it; they do not change it."""

    mode: ForwardMode
    #: [T] int64.
    input_ids: torch.Tensor
    #: [P, T] int64.
    positions: torch.Tensor
    geometry: AttentionGeometry
    #: The backend that planned this pass; ``Attention`` layers call it.
    attention: AttentionBackend
    #: The planned state that ``attention.plan`` returned for this pass.
    attention_plan: Any
    kv: KVPool
    #: [S] int64 indices into T of the rows whose logits are wanted, in request order; S may be 0.
    logits_index: torch.Tensor
    #: Per-pass state of the LoRA backend, or ``None`` when the pass has no adapter.
    lora: Any | None = None
    #: What the encoder made of media whose placeholders are in this pass.
    encoder_rows: EncoderRows | None = None
    #: Typed extension slots.
    extras: dict[int, Any] = field(default_factory=dict)

    @property
    def batch_size(self) -> int:
        return self.geometry.batch_size
