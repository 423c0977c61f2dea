"""KVSpec and its groups."""

from __future__ import annotations

import pytest

from hookline.cache.spec import KVPlane, KVSpec, group_specs


def spec(layer_id: int, heads: int = 2, head_dim: int = 8, v_head_dim: int = 8, dtype: str = "float32") -> KVSpec:
    return KVSpec(layer_id=layer_id, num_kv_heads=heads, head_dim=head_dim, v_head_dim=v_head_dim, dtype=dtype)


def test_bytes_per_token_counts_both_planes() -> None:
    assert spec(0, heads=2, head_dim=8, v_head_dim=4, dtype="bfloat16").bytes_per_token == 2 * (8 + 4) * 2
    assert spec(0).planes[0] == KVPlane(name="k", shape=(2, 8), dtype="float32")


def test_equal_layers_share_a_group() -> None:
    groups = group_specs([spec(0), spec(1), spec(2, heads=4), spec(3)])
    assert [group.layer_ids for group in groups] == [(0, 1, 3), (2,)]
    assert groups[0].bytes_per_token == 3 * spec(0).bytes_per_token


def test_a_layer_has_one_spec() -> None:
    with pytest.raises(ValueError, match="layer 1 has two KV specs"):
        group_specs([spec(1), spec(1)])


def test_unknown_dtypes_and_empty_planes_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown KV dtype 'int3'"):
        _ = spec(0, dtype="int3").planes
    with pytest.raises(ValueError, match="dimensions of at least 1"):
        _ = spec(0, heads=0).planes
