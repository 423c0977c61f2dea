"""The KV pool: slots that move."""

from __future__ import annotations

import torch

from hookline.cache.spec import KVSpec
from hookline.platform import CpuPlatform
from hookline.worker.kv_pool import KVPool


def test_move_copies_slots_in_all_layers_as_if_all_were_read_first() -> None:
    specs = [KVSpec(layer_id=i, num_kv_heads=2, head_dim=4, v_head_dim=6, dtype="float32") for i in range(3)]
    kv = KVPool(specs, num_tokens=10, page_size=1, platform=CpuPlatform(threads=1))
    before = {}
    for layer in range(3):
        for plane in kv.planes(layer):
            plane.copy_(torch.randn(plane.shape))
        before[layer] = [plane.clone() for plane in kv.planes(layer)]
    # 5 is overwritten and read, 3 and 4 change places.
    sources, targets = torch.tensor([7, 5, 3, 4]), torch.tensor([5, 2, 4, 3])
    kv.move(sources, targets)
    for layer in range(3):
        for plane, old in zip(kv.planes(layer), before[layer], strict=True):
            old[targets] = old[sources]
            assert torch.equal(plane, old)
