"""ModelHarness: a model on batches built by hand, with a KV cache whose slots are handed out at random."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from hookline.batch.forward_batch import AttentionGeometry, EncoderRows, ForwardBatch
from hookline.batch.forward_mode import ForwardMode
from hookline.config.model_config import ModelConfig
from hookline.interfaces.attention import AttentionEnv
from hookline.interfaces.lora import LoRABackend, LoRAEnv
from hookline.layers.build import BuildContext
from hookline.layers.model import Model
from hookline.testkit import installed_parts
from hookline.worker.model_loader import load_weights

CPU = torch.device("cpu")


class DenseKV:
    """K and V of every layer as plain tensors; slot 0 is the sink. Unwritten slots hold NaN."""

    def __init__(self, model: Model, num_slots: int) -> None:
        dtype, device = model.ctx.dtype, model.ctx.device
        self._planes = {
            layer.layer_id: (
                torch.full((num_slots, layer.num_kv_heads, layer.head_dim), torch.nan, dtype=dtype, device=device),
                torch.full((num_slots, layer.num_kv_heads, layer.v_head_dim), torch.nan, dtype=dtype, device=device),
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
    """One model and the KV of its sequences, each by a name."""

    def __init__(
        self,
        model: Model,
        *,
        max_sequences: int = 16,
        max_len: int = 256,
        deterministic: bool = False,
        seed: int = 0,
    ) -> None:
        """Attention is the installed backend that "auto" takes; ``ResolutionError`` if none fits the model."""
        self.model = model
        self.device = model.ctx.device
        num_slots = max_sequences * max_len + 1
        self.kv = DenseKV(model, num_slots)
        self.table = torch.zeros(max_sequences, max_len, dtype=torch.int32, device=self.device)
        self._free = list(range(1, num_slots))
        random.Random(seed).shuffle(self._free)
        self._sequences: dict[str, _Sequence] = {}
        layers = model.attention_layers
        env = AttentionEnv(
            device=self.device,
            dtype=model.ctx.dtype,
            page_size=1,
            num_q_heads=layers[0].num_q_heads,
            num_kv_heads=layers[0].num_kv_heads,
            head_dim=layers[0].head_dim,
            max_context_len=max_len,
            max_running_requests=max_sequences,
            deterministic=deterministic,
        )
        needed = {
            "deterministic": deterministic,
            "mask.window": any(layer.window is not None for layer in layers),
            "softcap": any(layer.softcap is not None for layer in layers),
        }
        self.attention = installed_parts.attention_backend(
            env, [name for name, is_needed in needed.items() if is_needed]
        )
        self.lora: LoRABackend | None = None
        #: Sequence -> slot of the adapter that it uses; the base model without one.
        self.adapters: dict[str, int] = {}

    @staticmethod
    def build(
        path: Path,
        model_type: type[Model] | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        deterministic: bool = False,
        device: torch.device = CPU,
    ) -> Model:
        """The model of a checkpoint, of the installed class unless one is given; its parameters hold NaN."""
        config = ModelConfig.load(path)
        ops = installed_parts.ops(device, dtype, deterministic=deterministic)
        ctx = BuildContext(device=device, dtype=dtype, ops=ops, max_positions=config.context_len)
        model = (model_type or installed_parts.model_for(config.architectures[0]))(config, ctx)
        for parameter in model.parameters.values():
            parameter.data.fill_(torch.nan)
        return model

    @staticmethod
    def load(
        path: Path,
        model_type: type[Model] | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        deterministic: bool = False,
        device: torch.device = CPU,
        max_adapters: int = 0,
        max_rank: int = 16,
    ) -> ModelHarness:
        """Load a checkpoint as the worker does; ``max_adapters`` gives it the installed LoRA backend."""
        model = ModelHarness.build(path, model_type, dtype=dtype, deterministic=deterministic, device=device)
        load_weights(model, path)
        harness = ModelHarness(model, deterministic=deterministic)
        if max_adapters:
            harness.lora = installed_parts.lora_backend(
                LoRAEnv(
                    device=device,
                    dtype=dtype,
                    layers=dict(model.linears),
                    max_adapters=max_adapters,
                    max_rank=max_rank,
                    map_weight=model.map_weight,
                    deterministic=deterministic,
                )
            )
        model.finalize(harness.lora)
        return harness

    @torch.inference_mode()
    def step(
        self,
        tokens: Mapping[str, Sequence[int]],
        *,
        all_logits: bool = False,
        positions: torch.Tensor | None = None,
        encoder_rows: EncoderRows | None = None,
    ) -> dict[str, torch.Tensor]:
        """Run the given new tokens of each sequence in one pass, in order; ``positions`` [P, T] if not plain.

        ``encoder_rows`` take the places of embeddings.

        Returns the logits after each sequence's last token, [V], or of all its tokens, [n, V].
        """
        batch = self.batch(tokens, all_logits=all_logits)
        if positions is not None:
            batch.positions = positions
        batch.encoder_rows = encoder_rows
        logits = self.model.compute_logits(self.model.forward(batch)[batch.logits_index])
        if not all_logits:
            return dict(zip(tokens, logits, strict=True))
        parts = torch.split(logits, [len(ids) for ids in tokens.values()])
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

    def fork(self, source: str, name: str, length: int) -> None:
        """Begin a sequence with the first ``length`` tokens of another one, as a prefix cache does."""
        assert length <= self._sequences[source].length
        new = self._sequences[name] = _Sequence(row=len(self._sequences), length=length)
        self.table[new.row, :length] = self.table[self._sequences[source].row, :length]

    def batch(self, tokens: Mapping[str, Sequence[int]], *, all_logits: bool = False) -> ForwardBatch:
        """The pass that computes the given new tokens of each sequence; they count as computed from now on."""
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
            req_pool_indices=self._tensor(rows),
            seq_lens=self._tensor(seq_lens),
            prefix_lens=self._tensor(prefix_lens),
            seq_lens_cpu=seq_lens,
            prefix_lens_cpu=prefix_lens,
            extend_lens_cpu=extend_lens,
            out_cache_loc=self._tensor(loc),
            page_size=1,
        )
        last = self._tensor(extend_lens).cumsum(0) - 1
        slots_of = [self.adapters.get(name, 0) for name in tokens]
        plan = self.attention.plan(geometry)
        self.attention.prepare(plan, geometry)
        return ForwardBatch(
            mode=geometry.mode,
            input_ids=self._tensor(ids),
            positions=self._tensor(positions).expand(self.model.config.position_planes, -1),
            geometry=geometry,
            attention=self.attention,
            attention_plan=plan,
            kv=self.kv,
            logits_index=self._tensor(list(range(len(ids)))) if all_logits else last,
            lora=self.lora.plan(slots_of, geometry) if self.lora is not None and any(slots_of) else None,
        )

    def _tensor(self, values: list[int]) -> torch.Tensor:
        return torch.tensor(values, device=self.device)
