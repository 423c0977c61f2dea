"""The list of pages on the device and its twin on the host, against one made request by request."""

from __future__ import annotations

import pytest
import torch

from hookline.batch.forward_mode import ForwardMode
from hookline.testkit.attention_cases import Lengths, attention_case, layer_info
from hookline_attention.flashinfer_attention.host_lengths import HostLengths
from hookline_attention.flashinfer_attention.page_table import PageTable

MANY: Lengths = [(length, 1) for length in (0, 1, 15, 16, 17, 63, 64, 600)] + [(3, 1)] * 300
PASSES: dict[str, Lengths] = {
    "one": [(0, 1)],
    "uneven": [(1, 1), (350, 1), (20, 4), (19, 1), (0, 16), (15, 1)],
    "many": MANY,
    "long": [(1500, 1), (2000, 48)],
}


@pytest.mark.parametrize("page_size", [1, 16, 64])
@pytest.mark.parametrize("name", PASSES)
def test_pages_are_those_of_each_request(name: str, page_size: int) -> None:
    lengths = PASSES[name]
    geometry = attention_case(lengths, [layer_info(heads=(1, 1))], page_size=page_size).geometry
    indptr, indices, last_page_len = [0], [], []
    for row, seq_len in zip(geometry.req_pool_indices.tolist(), geometry.seq_lens_cpu, strict=True):
        slots = geometry.req_to_token[row, :seq_len].tolist()
        indices += [slot // page_size for slot in slots[::page_size]]
        indptr.append(len(indices))
        last_page_len.append(slots[-1] % page_size + 1)

    host = HostLengths(geometry.seq_lens_cpu, geometry.extend_lens_cpu, page_size, pin=False)
    assert host.indptr.tolist() == indptr
    assert host.last_page_len.tolist() == last_page_len
    assert host.seq_lens.tolist() == geometry.seq_lens_cpu
    assert host.qo_indptr.tolist() == [0, *torch.tensor(geometry.extend_lens_cpu).cumsum(0).tolist()]
    assert host.longest_new == max(geometry.extend_lens_cpu)
    assert (host.num_pages, host.batch_size) == (len(indices), len(lengths))

    if torch.cuda.is_available():
        pytest.skip("Triton compiles for the GPU here")
    spare = 7
    table = PageTable(len(lengths), torch.full((len(indices) + spare,), -1, dtype=torch.int32))
    table.fill(geometry)
    assert table.indptr.tolist() == indptr
    assert table.last_page_len.tolist() == last_page_len
    assert table.indices.tolist() == indices + [-1] * spare


def test_a_table_follows_the_tensors() -> None:
    if torch.cuda.is_available():
        pytest.skip("Triton compiles for the GPU here")
    geometry = attention_case([(20, 1), (40, 1)], [layer_info()], mode=ForwardMode.DECODE, page_size=16).geometry
    table = PageTable(2, torch.zeros(64, dtype=torch.int32))
    table.fill(geometry)
    assert table.indptr.tolist() == [0, 2, 5]
    geometry.seq_lens.copy_(torch.tensor([1, 17]))
    table.fill(geometry)
    assert table.indptr.tolist() == [0, 1, 3]
    assert table.last_page_len.tolist() == [1, 1]


def test_lengths_of_decodes_need_no_extends() -> None:
    lengths = HostLengths([5, 1, 33], None, 16, pin=False)
    assert lengths.qo_indptr.tolist() == [0, 1, 2, 3]
    assert lengths.indptr.tolist() == [0, 1, 2, 5]
    assert lengths.last_page_len.tolist() == [5, 1, 1]
    assert lengths.longest_new == 1


def test_an_idle_pass_has_no_lengths() -> None:
    lengths = HostLengths([], [], 16, pin=False)
    assert lengths.qo_indptr.tolist() == lengths.indptr.tolist() == [0]
    assert (lengths.num_pages, lengths.longest_new) == (0, 0)
