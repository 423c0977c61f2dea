"""FlashInferAttention: FlashInfer's paged prefill and decode kernels as an attention backend.

Keys and values are in the pool before attention runs, so one paged, causal call serves prefix and new tokens alike.
The list of pages is made on the device from the request-to-slot table; FlashInfer's plan, which cuts the work into
pieces, is made on the host from the host's lengths. Nothing waits for the device. A captured decode is planned anew
before each replay, into the memory that the graph's kernels read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hookline.batch.forward_batch import MaskKind
from hookline.interfaces.attention import AttentionBackend, AttentionEnv, AttentionLayerInfo
from hookline_attention.flashinfer_attention.host_lengths import HostLengths, IntArray
from hookline_attention.flashinfer_attention.kernel_choice import decode_uses_tensor_cores, prefill_kernel
from hookline_attention.flashinfer_attention.layer_kind import LayerKind
from hookline_attention.flashinfer_attention.library import load_flashinfer
from hookline_attention.flashinfer_attention.page_table import PageTable
from hookline_attention.flashinfer_attention.passes import CapturedDecode, EagerPass, Pass
from hookline_attention.flashinfer_attention.workspace import Workspaces, float_bytes
from hookline_attention.flashinfer_attention.wrappers import Wrappers
from hookline_attention.options import AttentionOptions

if TYPE_CHECKING:
    from hookline.batch.forward_batch import AttentionGeometry
    from hookline.interfaces.attention import KVPool

#: Decodes of more requests are rarely captured; those that are take more memory when they are.
_USUAL_CAPTURE = 256
#: Multiprocessors and compute capability to assume where there is no device to ask (tests).
_NO_DEVICE = (4, (0, 0))


class FlashInferAttention(AttentionBackend):
    """See the module's docstring. ``library`` stands in for the package ``flashinfer`` in tests."""

    def __init__(self, env: AttentionEnv, library: Any = None) -> None:
        super().__init__(env)
        options = env.options or AttentionOptions()
        self._num_sms, capability = _facts(env.device)
        self._workspaces = Workspaces(env.device, self._float_bytes(min(env.max_running_requests, _USUAL_CAPTURE)))
        self._wrappers = Wrappers(
            library or load_flashinfer(env.kernel_cache_dir),
            self._workspaces,
            dtype=env.dtype,
            page_size=env.page_size,
            prefill_kernel=prefill_kernel(options.flashinfer_prefill_kernel, capability),
            tensor_cores=decode_uses_tensor_cores(
                options.flashinfer_decode_kernel, env.num_q_heads // env.num_kv_heads
            ),
        )
        #: Page list of captured decodes. They share it: each replay fills it in.
        self._captured_indices = torch.empty(0, dtype=torch.int32, device=env.device)

    def plan(self, geometry: AttentionGeometry) -> Pass:
        if geometry.mask is MaskKind.TREE:
            raise ValueError("attention backend 'flashinfer' has no tree masks: use --attention-backend triton")
        lengths = HostLengths(
            geometry.seq_lens_cpu,
            geometry.extend_lens_cpu,
            geometry.page_size,
            pin=self.env.device.type == "cuda",
        )
        return EagerPass(geometry, lengths, self._wrappers, self.env.device)

    def plan_capture(self, geometry: AttentionGeometry) -> Pass:
        batch_size = geometry.batch_size
        self._workspaces.grow(self._float_bytes(batch_size))
        num_pages = sum(-(-bound // geometry.page_size) for bound in geometry.seq_lens_cpu)
        if self._captured_indices.shape[0] < num_pages:
            with torch.inference_mode(False):
                # Zeros: the run before the capture may read pages that nobody filled in.
                self._captured_indices = torch.zeros(num_pages, dtype=torch.int32, device=self.env.device)
        # The sizes of launches depend on the batch alone. Short requests make the run before the capture short.
        lengths = HostLengths([1] * batch_size, None, geometry.page_size, pin=False)
        return CapturedDecode(geometry, lengths, self._wrappers, PageTable(batch_size, self._captured_indices))

    def prepare(self, plan: Pass, geometry: AttentionGeometry) -> None:
        if geometry.batch_size:
            plan.table.fill(geometry)

    def replan(self, plan: Pass, seq_lens_cpu: IntArray) -> None:
        assert isinstance(plan, CapturedDecode), "only what plan_capture gave is replayed"
        plan.replan(seq_lens_cpu)

    def forward(
        self,
        q_THD: Tensor,
        k_TKD: Tensor,
        v_TKD: Tensor,
        layer: AttentionLayerInfo,
        kv: KVPool,
        plan: Pass,
    ) -> Tensor:
        k_plane, v_plane = kv.planes(layer.layer_id)
        window = plan.geometry.window if layer.window is None else layer.window
        kind = LayerKind.of(layer, window, k_plane.dtype)
        out_THD = q_THD.new_empty(q_THD.shape[0], layer.num_q_heads, layer.head_dim)
        if q_THD.shape[0] == 0:
            return out_THD
        if q_THD.stride(-1) != 1:
            q_THD = q_THD.contiguous()
        planes = (self._pages(k_plane), self._pages(v_plane))
        plan.wrapper(kind).run(q_THD, planes, q_scale=layer.scale, out=out_THD)
        return out_THD

    def _pages(self, plane_SKD: Tensor) -> Tensor:
        return plane_SKD.view(-1, self.env.page_size, *plane_SKD.shape[1:])

    def _float_bytes(self, captured_batch: int) -> int:
        env = self.env
        return float_bytes(
            env.num_q_heads, env.num_kv_heads, env.head_dim, captured_batch=captured_batch, num_sms=self._num_sms
        )


def _facts(device: torch.device) -> tuple[int, tuple[int, int]]:
    """Multiprocessors and compute capability."""
    if device.type != "cuda":
        return _NO_DEVICE
    found = torch.cuda.get_device_properties(device)
    return int(found.multi_processor_count), (found.major, found.minor)
