"""ModelRunner: the model, its attention backend, the pools, and one forward pass over them."""

from __future__ import annotations

import torch

from hookline.batch.forward_batch import AttentionGeometry, EncoderRows, ForwardBatch
from hookline.batch.worker_batch import ModelWorkerBatch
from hookline.interfaces.attention import AttentionBackend
from hookline.interfaces.lora import LoRABackend
from hookline.layers.model import Model
from hookline.platform import Platform
from hookline.worker.forward_inputs import ForwardInputs, ForwardTensors
from hookline.worker.kv_pool import KVPool


class ModelRunner:
    """Runs passes. All methods run in the work queue, under ``torch.inference_mode``.

    Rows of the request-to-slot table go from 0 to ``num_rows`` - 1, columns from 0 to ``max_context_len`` - 1.
    """

    def __init__(
        self,
        model: Model,
        attention: AttentionBackend,
        kv: KVPool,
        platform: Platform,
        *,
        num_rows: int,
        max_context_len: int,
        lora: LoRABackend | None = None,
    ) -> None:
        self.model = model
        self.attention = attention
        self.kv = kv
        self.lora = lora
        #: [R + 1, C] int32 slot of each token of each request row. The last row belongs to no request: all of its
        #: slots are the sink, for the padding of captured passes.
        self.req_to_token = platform.zeros((num_rows + 1, max_context_len), torch.int32)

    def write_table(self, tensors: ForwardTensors) -> None:
        """Enter the slots of a pass; before its forward."""
        self.enter_slots(tensors.table_rows, tensors.table_cols, tensors.table_slots)

    def enter_slots(self, rows: torch.Tensor, cols: torch.Tensor, slots: torch.Tensor) -> None:
        """Write ``slots`` [W] at (rows [W], cols [W]) of the table."""
        self.req_to_token[rows, cols] = slots.to(torch.int32)

    def forward(
        self,
        batch: ModelWorkerBatch,
        inputs: ForwardInputs,
        tensors: ForwardTensors,
        encoder_rows: EncoderRows | None = None,
    ) -> torch.Tensor:
        """Hidden states after the final norm, [T, H], of a pass whose ``input_ids`` are filled in."""
        geometry = AttentionGeometry(
            mode=batch.mode,
            req_to_token=self.req_to_token,
            req_pool_indices=tensors.req_pool_indices,
            seq_lens=tensors.seq_lens,
            prefix_lens=tensors.prefix_lens,
            seq_lens_cpu=inputs.seq_lens_cpu,
            prefix_lens_cpu=inputs.prefix_lens_cpu,
            extend_lens_cpu=inputs.extend_lens_cpu,
            out_cache_loc=tensors.out_cache_loc,
            page_size=self.kv.page_size,
        )
        plan = self.attention.plan(geometry)
        self.attention.prepare(plan, geometry)
        lora_plan = None
        if batch.adapters is not None and self.lora is not None:
            lora_plan = self.lora.plan(batch.adapters, geometry)
        return self.model.forward(
            ForwardBatch(
                mode=batch.mode,
                input_ids=tensors.input_ids,
                positions=tensors.positions,
                geometry=geometry,
                attention=self.attention,
                attention_plan=plan,
                kv=self.kv,
                logits_index=tensors.logits_index,
                lora=lora_plan,
                encoder_rows=encoder_rows,
                extras=dict(batch.extras),
            )
        )

    def compute_logits(self, hidden_SH: torch.Tensor) -> torch.Tensor:
        """[S, V] float32 logits of rows of ``forward``'s result; a tensor of its own, free to be changed."""
        return self.model.compute_logits(hidden_SH)
