"""BuildContext: the only way in which a model makes layers.

It binds what a layer needs and a model should not know: device and dtype, the weight format, the ops, the
slot for LoRA deltas. It keeps every parameter and every linear layer by path, for the loader and for LoRA.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from hookline.interfaces.attention import AttentionLayerInfo
from hookline.layers.attention import Attention
from hookline.layers.embedding import Embedding
from hookline.layers.linear import Linear, LinearMethod, LinearShape, UnquantizedLinear
from hookline.layers.logits import LMHead
from hookline.layers.moe import MoE, MoEMethod, MoEShape, UnquantizedMoE
from hookline.layers.norm import LayerNorm, RMSNorm
from hookline.layers.normed_linear import NormedLinear
from hookline.layers.normed_moe import NormedMoE
from hookline.layers.ops import Ops
from hookline.layers.packed_attention import BackendMaker, PackedAttention
from hookline.layers.parameters import Parameter, Part, Split, whole
from hookline.layers.rotary import RotaryEmbedding
from hookline.layers.rotary_heads import NormedRotaryHeads, RotaryHeads

if TYPE_CHECKING:
    from torch import Tensor

    from hookline.config.rope_config import RopeConfig
    from hookline.interfaces.lora import LoRABackend


class BuildContext:
    """Makes the layers of one model.

    Paths are those of the checkpoint, with a fused name where layers fuse ("qkv_proj", "gate_up_proj").
    """

    def __init__(
        self,
        *,
        device: torch.device,
        dtype: torch.dtype,
        ops: Ops,
        max_positions: int,
        linear_method: LinearMethod | None = None,
        moe_method: MoEMethod | None = None,
        layer_range: range | None = None,
        encoder_backend: BackendMaker | None = None,
    ) -> None:
        """``max_positions`` is the context length of the engine: no pass has a position beyond it.

        ``layer_range`` are the decoder layers of this rank; ``None``: all of them. ``encoder_backend`` makes the
        attention backends of encoders; without it they run on torch.
        """
        self.device = device
        self.dtype = dtype
        self.ops = ops
        self.max_positions = max_positions
        self.layer_range = layer_range
        self._encoder_backend = encoder_backend
        self._linear_method = linear_method or UnquantizedLinear()
        self._moe_method = moe_method or UnquantizedMoE()
        self._parameters: dict[str, Parameter] = {}
        self._linears: dict[str, Linear] = {}
        self._attention_layers: list[AttentionLayerInfo] = []
        self._rotaries: dict[tuple[RopeConfig, int], RotaryEmbedding] = {}
        #: What ``finalize`` runs, in the order of building.
        self._bindings: list[Callable[[LoRABackend | None], None]] = []

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        """Every parameter by path."""
        return self._parameters

    @property
    def linears(self) -> Mapping[str, Linear]:
        """Every linear layer by path; each may carry LoRA deltas."""
        return self._linears

    @property
    def attention_layers(self) -> Sequence[AttentionLayerInfo]:
        """What the KV cache must hold, in layer order."""
        return self._attention_layers

    def layer_ids(self, num_layers: int) -> range:
        """The decoder layers that this rank builds."""
        return range(num_layers) if self.layer_range is None else self.layer_range

    def finalize(self, lora: LoRABackend | None = None) -> None:
        """Bind all layers over their loaded weights. Needed after every load; layers do not run before.

        ``lora`` adds its deltas to every linear layer.
        """
        for bind in self._bindings:
            bind(lora)

    # --- linear layers ---

    def linear(
        self,
        path: str,
        in_features: int,
        out_features: int,
        *,
        bias: bool = False,
        split: Split = Split.COLUMN,
        quantizable: bool = True,
        adaptable: bool = True,
    ) -> Linear:
        """One projection. LoRA adapters find it unless ``adaptable`` is false, as for encoders of media, whose output
        is shared by all requests."""
        part = Part(name=path.rpartition(".")[2], size=out_features)
        shape = LinearShape(path=path, in_features=in_features, parts=(part,), bias=bias, split=split)
        return self._linear(shape, self._linear_method if quantizable else UnquantizedLinear(), adaptable=adaptable)

    def merged_linear(
        self, path: str, in_features: int, parts: Sequence[Part], *, bias: bool = False, adaptable: bool = True
    ) -> Linear:
        """Several projections of one input in one product; ``parts`` name them as checkpoints do."""
        shape = LinearShape(path=path, in_features=in_features, parts=tuple(parts), bias=bias, split=Split.COLUMN)
        return self._linear(shape, self._linear_method, adaptable=adaptable)

    def qkv_linear(
        self,
        path: str,
        in_features: int,
        *,
        num_q_heads: int,
        num_kv_heads: int,
        head_dim: int,
        bias: bool = False,
        adaptable: bool = True,
    ) -> Linear:
        """Query, key and value projections in one product: q heads, then k heads, then v heads."""
        parts = (
            Part(name="q_proj", size=num_q_heads * head_dim),
            Part(name="k_proj", size=num_kv_heads * head_dim),
            Part(name="v_proj", size=num_kv_heads * head_dim),
        )
        return self.merged_linear(path, in_features, parts, bias=bias, adaptable=adaptable)

    def _linear(self, shape: LinearShape, method: LinearMethod, *, adaptable: bool = True) -> Linear:
        parameters = self._keep(method.parameters(shape, self.dtype, self.device))
        layer = Linear(shape, method, parameters)
        if adaptable:
            self._linears[shape.path] = layer
        self._bindings.append(lambda lora: layer.bind(self.ops, lora if adaptable else None))
        return layer

    def normed_linear(self, norm: RMSNorm, linear: Linear, *, activation: str | None = None) -> NormedLinear:
        """``linear`` over ``norm`` of the residual stream, and with ``activation`` a gated activation behind it."""
        layer = NormedLinear(norm, linear, activation, self.ops)
        self._bindings.append(lambda lora: layer.bind(self.ops))
        return layer

    def moe(
        self,
        path: str,
        *,
        hidden_size: int,
        intermediate_size: int,
        num_experts: int,
        top_k: int,
        renormalize: bool,
        router: str = "gate",
        experts: str = "experts",
    ) -> MoE:
        """A router and its experts, under ``path``."""
        # Never quantised: the router's rounding decides which experts run.
        gate = self.linear(f"{path}.{router}", hidden_size, num_experts, split=Split.REPLICATED, quantizable=False)
        shape = MoEShape(
            path=f"{path}.{experts}",
            num_experts=num_experts,
            hidden_size=hidden_size,
            intermediate_size=intermediate_size,
        )
        parameters = self._keep(self._moe_method.parameters(shape, self.dtype, self.device))
        layer = MoE(shape, self._moe_method, parameters, gate, top_k, renormalize, self.ops)
        self._bindings.append(lambda lora: layer.bind(self.ops))
        return layer

    def normed_moe(self, norm: RMSNorm, moe: MoE) -> NormedMoE:
        """``moe`` over ``norm`` of the residual stream."""
        layer = NormedMoE(norm, moe)
        self._bindings.append(lambda lora: layer.bind(self.ops))
        return layer

    # --- everything else ---

    def parameter(self, path: str, *shape: int, split: Split = Split.REPLICATED) -> Tensor:
        """A parameter of the model's own, held by checkpoints under the same name and shape."""
        data = torch.empty(shape, dtype=self.dtype, device=self.device)
        self._keep([Parameter(name=path, data=data, forms=whole(path, shape), split=split)])
        return data

    def embedding(self, path: str, num_embeddings: int, hidden_size: int) -> Embedding:
        """A table of token embeddings."""
        return Embedding(self.parameter(f"{path}.weight", num_embeddings, hidden_size, split=Split.COLUMN))

    def lm_head(self, path: str, vocab_size: int, hidden_size: int, *, tied_to: Embedding | None = None) -> LMHead:
        """The output head; with ``tied_to`` it has no parameter of its own."""
        if tied_to is not None:
            return LMHead(tied_to.weight, self.ops)
        return LMHead(self.parameter(f"{path}.weight", vocab_size, hidden_size, split=Split.COLUMN), self.ops)

    def rms_norm(self, path: str, hidden_size: int, eps: float) -> RMSNorm:
        """A root-mean-square norm."""
        return RMSNorm(self.parameter(f"{path}.weight", hidden_size), eps, self.ops)

    def layer_norm(self, path: str, hidden_size: int, eps: float) -> LayerNorm:
        """A layer norm with weight and bias."""
        weight = self.parameter(f"{path}.weight", hidden_size)
        return LayerNorm(weight, self.parameter(f"{path}.bias", hidden_size), eps)

    def rotary(self, rope: RopeConfig, head_dim: int) -> RotaryEmbedding:
        """The rotation table; one for all layers with the same parameters."""
        key = (rope, head_dim)
        if key not in self._rotaries:
            self._rotaries[key] = RotaryEmbedding(rope, head_dim, self.max_positions, self.dtype, self.device)
        return self._rotaries[key]

    def rotary_heads(self, *, num_q_heads: int, num_kv_heads: int) -> RotaryHeads:
        """The step from a QKV projection to rotated heads."""
        return RotaryHeads(num_q_heads, num_kv_heads, self.ops)

    def normed_rotary_heads(
        self, path: str, *, num_q_heads: int, num_kv_heads: int, head_dim: int, eps: float
    ) -> NormedRotaryHeads:
        """The same with a norm of each head: weights ``path.q_norm`` and ``path.k_norm``."""
        q_weight = self.parameter(f"{path}.q_norm.weight", head_dim)
        k_weight = self.parameter(f"{path}.k_norm.weight", head_dim)
        layer = NormedRotaryHeads(num_q_heads, num_kv_heads, q_weight, k_weight, eps, self.ops)
        self._bindings.append(lambda lora: layer.bind())
        return layer

    def attention(
        self,
        layer_id: int,
        *,
        num_q_heads: int,
        num_kv_heads: int,
        head_dim: int,
        scale: float | None = None,
        window: int | None = None,
        softcap: float | None = None,
    ) -> Attention:
        """Attention over the KV cache; ``scale`` is head_dim ** -0.5 unless given."""
        info = AttentionLayerInfo(
            layer_id=layer_id,
            num_q_heads=num_q_heads,
            num_kv_heads=num_kv_heads,
            head_dim=head_dim,
            v_head_dim=head_dim,
            scale=head_dim**-0.5 if scale is None else scale,
            window=window,
            softcap=softcap,
        )
        self._attention_layers.append(info)
        return Attention(info)

    def packed_attention(self, *, num_heads: int, head_dim: int, scale: float | None = None) -> PackedAttention:
        """Attention of an encoder of media, for all its layers; ``scale`` is head_dim ** -0.5 unless given."""
        backend = None if self._encoder_backend is None else self._encoder_backend(num_heads, head_dim)
        scale = head_dim**-0.5 if scale is None else scale
        return PackedAttention(num_heads, head_dim, self.device, backend, scale)

    def _keep(self, parameters: list[Parameter]) -> list[Parameter]:
        for parameter in parameters:
            if parameter.name in self._parameters:
                raise ValueError(f"the model has two parameters named '{parameter.name}'")
            self._parameters[parameter.name] = parameter
        return parameters
