"""Runs a model of ours on batches built by hand, with a KV pool whose slots are handed out at random."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from hookline.batch.forward_batch import AttentionGeometry, ForwardBatch
from hookline.batch.forward_mode import ForwardMode
from hookline.config.model_config import ModelConfig
from hookline.interfaces.attention import AttentionEnv
from hookline.interfaces.lora import LoRABackend, LoRAEnv
from hookline.layers.build import BuildContext
from hookline.layers.model import Model
from hookline.layers.ops import Ops
from hookline.worker.model_loader import load_weights
from hookline_attention.torch_native import TorchNativeAttention
from hookline_kernels.torch_ops import torch_ops
from hookline_lora.torch_backend import TorchLoRABackend
from hookline_models.llama import LlamaForCausalLM
from hookline_models.qwen2 import Qwen2ForCausalLM
from hookline_models.qwen3 import Qwen3ForCausalLM
from hookline_models.qwen3_moe import Qwen3MoeForCausalLM
from hookline_models.qwen3_vl.model import Qwen3VLMoeForConditionalGeneration

MODELS: dict[str, type[Model]] = {
    model.__name__: model
    for model in (
        LlamaForCausalLM,
        Qwen2ForCausalLM,
        Qwen3ForCausalLM,
        Qwen3MoeForCausalLM,
        Qwen3VLMoeForConditionalGeneration,
    )
}
CPU = torch.device("cpu")


class DenseKV:
    """K and V of every layer as plain tensors; slot 0 is the sink. Unwritten slots hold NaN."""

    def __init__(self, model: Model, num_slots: int, dtype: torch.dtype) -> None:
        self._planes = {
            layer.layer_id: (
                torch.full((num_slots, layer.num_kv_heads, layer.head_dim), float("nan"), dtype=dtype),
                torch.full((num_slots, layer.num_kv_heads, layer.v_head_dim), float("nan"), dtype=dtype),
            )
            for layer in model.attention_layers
        }

    def planes(self, layer_id: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self._planes[layer_id]

    def store(self, layer_id: int, loc: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> None:
        k_plane, v_plane = self._planes[layer_id]
        k_plane[loc] = k
        v_plane[loc] = v


@dataclass(slots=True)
class _Sequence:
    row: int
    length: int = 0


class ModelHarness:
    """One model and the KV of its sequences."""

    def __init__(
        self,
        model: Model,
        *,
        max_sequences: int = 16,
        max_len: int = 256,
        deterministic: bool = False,
        seed: int = 0,
    ) -> None:
        self.model = model
        dtype = model.ctx.dtype
        num_slots = max_sequences * max_len + 1
        self.kv = DenseKV(model, num_slots, dtype)
        self.table = torch.zeros(max_sequences, max_len, dtype=torch.int32)
        self._free = list(range(1, num_slots))
        random.Random(seed).shuffle(self._free)
        self._sequences: dict[str, _Sequence] = {}
        layer = model.attention_layers[0]
        self.attention = TorchNativeAttention(
            AttentionEnv(
                device=CPU,
                dtype=dtype,
                page_size=1,
                num_q_heads=layer.num_q_heads,
                num_kv_heads=layer.num_kv_heads,
                head_dim=layer.head_dim,
                max_context_len=max_len,
                max_running_requests=max_sequences,
                deterministic=deterministic,
            )
        )
        self.lora: LoRABackend | None = None
        self.adapters: dict[str, int] = {}

    @staticmethod
    def load(
        path: Path,
        *,
        dtype: torch.dtype = torch.float32,
        deterministic: bool = False,
        max_adapters: int = 0,
        max_rank: int = 16,
    ) -> ModelHarness:
        """Load a checkpoint as the worker does; ``max_adapters`` gives it a LoRA backend."""
        config = ModelConfig.load(path)
        ops = Ops([torch_ops(CPU, dtype, None)], deterministic=deterministic)
        ctx = BuildContext(device=CPU, dtype=dtype, ops=ops, max_positions=config.context_len)
        model = MODELS[config.architectures[0]](config, ctx)
        load_weights(model, path)
        harness = ModelHarness(model, deterministic=deterministic)
        if max_adapters:
            env = LoRAEnv(
                device=CPU,
                dtype=dtype,
                layers=dict(model.linears),
                max_adapters=max_adapters,
                max_rank=max_rank,
                map_weight=model.map_weight,
                deterministic=deterministic,
            )
            harness.lora = TorchLoRABackend(env)
        model.finalize(harness.lora)
        return harness

    @torch.inference_mode()
    def step(
        self,
        tokens: Mapping[str, Sequence[int]],
        *,
        all_logits: bool = False,
        positions: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """Run the given new tokens of each sequence in one pass, in order; ``positions`` [P, T] if not plain.

        Returns the logits after each sequence's last token, [V], or of all its tokens, [n, V].
        """
        batch = self._batch(tokens, all_logits)
        if positions is not None:
            batch.positions = positions
        hidden = self.model.forward(batch)
        assert hidden.shape[0] == batch.input_ids.shape[0]
        logits = self.model.compute_logits(hidden[batch.logits_index])
        assert logits.dtype == torch.float32
        if not all_logits:
            return dict(zip(tokens, logits, strict=True))
        parts = logits.split([len(ids) for ids in tokens.values()])
        return dict(zip(tokens, parts, strict=True))

    def greedy(
        self, prompts: Mapping[str, Sequence[int]], steps: int, chunk: int | None = None
    ) -> dict[str, list[int]]:
        """Greedy output of all prompts together; prompts are computed in chunks, all at once per pass."""
        last: dict[str, torch.Tensor] = {}
        left = {name: list(ids) for name, ids in prompts.items()}
        while left:
            now = {name: ids[: chunk or len(ids)] for name, ids in left.items()}
            last.update(self.step(now))
            left = {name: ids[len(now[name]) :] for name, ids in left.items() if len(ids) > len(now[name])}
        output: dict[str, list[int]] = {name: [] for name in prompts}
        for _ in range(steps):
            for name, logits in last.items():
                output[name].append(int(logits.argmax()))
            if len(output[next(iter(output))]) == steps:
                break
            last = self.step({name: ids[-1:] for name, ids in output.items()})
        return output

    def _batch(self, tokens: Mapping[str, Sequence[int]], all_logits: bool) -> ForwardBatch:
        rows: list[int] = []
        prefix_lens: list[int] = []
        extend_lens: list[int] = []
        ids: list[int] = []
        positions: list[int] = []
        loc: list[int] = []
        for name, new in tokens.items():
            sequence = self._sequences.setdefault(name, _Sequence(row=len(self._sequences)))
            slots = [self._free.pop() for _ in new]
            end = sequence.length + len(new)
            self.table[sequence.row, sequence.length : end] = torch.tensor(slots, dtype=torch.int32)
            rows.append(sequence.row)
            prefix_lens.append(sequence.length)
            extend_lens.append(len(new))
            ids += list(new)
            positions += range(sequence.length, end)
            loc += slots
            sequence.length = end
        seq_lens = [prefix + new for prefix, new in zip(prefix_lens, extend_lens, strict=True)]
        geometry = AttentionGeometry(
            mode=ForwardMode.DECODE if set(extend_lens) == {1} else ForwardMode.EXTEND,
            req_to_token=self.table,
            req_pool_indices=torch.tensor(rows),
            seq_lens=torch.tensor(seq_lens),
            prefix_lens=torch.tensor(prefix_lens),
            seq_lens_cpu=seq_lens,
            prefix_lens_cpu=prefix_lens,
            extend_lens_cpu=extend_lens,
            out_cache_loc=torch.tensor(loc),
            page_size=1,
        )
        last = torch.tensor(extend_lens).cumsum(0) - 1
        slots_of = [self.adapters.get(name, 0) for name in tokens]
        return ForwardBatch(
            mode=geometry.mode,
            input_ids=torch.tensor(ids),
            positions=torch.tensor(positions).expand(self.model.config.position_planes, -1),
            geometry=geometry,
            attention=self.attention,
            attention_plan=self.attention.plan(geometry),
            kv=self.kv,
            logits_index=torch.arange(len(ids)) if all_logits else last,
            lora=self.lora.plan(slots_of, geometry) if self.lora is not None and any(slots_of) else None,
        )
