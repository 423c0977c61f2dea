"""The CPU platform: work queues, memory readings, lazily taken memory, threads."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from hookline.errors import ConfigError
from hookline.machine import physical_cores, read_memory, usable_cpus
from hookline.platform import CpuPlatform, create_platform
from hookline.worker.packing import HostPack


def test_work_runs_in_order_and_gives_its_values() -> None:
    queue = CpuPlatform(threads=1).queue()
    seen: list[int] = []

    def work(i: int) -> int:
        seen.append(i)
        return i * i

    tickets = [queue.submit(partial(work, i)) for i in range(50)]
    assert [ticket.wait() for ticket in tickets] == [i * i for i in range(50)]
    assert seen == list(range(50))
    queue.close()


def test_an_error_comes_from_wait_and_later_work_still_runs() -> None:
    def fail() -> None:
        raise LookupError("no")

    queue = CpuPlatform(threads=1).queue()
    failed, fine = queue.submit(fail), queue.submit(lambda: 5)
    with pytest.raises(LookupError, match="no"):
        failed.wait()
    assert fine.wait() == 5
    queue.close()


def test_memory_is_read_in_bytes() -> None:
    free, total = read_memory()
    assert 1 << 26 < free <= total
    assert CpuPlatform(threads=1).memory().total == total


def test_large_zeros_take_no_memory_before_they_are_touched() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    before = resident()
    pool = CpuPlatform(threads=1).zeros((1 << 20, 8, 16), torch.float32)
    assert pool.shape == (1 << 20, 8, 16)
    assert resident() - before < 16 << 20
    pool[77] = 2.0
    assert pool[76:79].sum(dim=(1, 2)).tolist() == [0.0, 256.0, 0.0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.int32, torch.float32])
def test_zeros_have_the_asked_dtype(dtype: torch.dtype) -> None:
    for shape in ((3,), (5000, 3)):
        tensor = CpuPlatform(threads=1).zeros(shape, dtype)
        assert (tensor.dtype, tuple(tensor.shape)) == (dtype, shape)
        assert not tensor.any()


def test_threads_default_to_cores_that_may_be_used() -> None:
    assert 1 <= CpuPlatform().threads == min(physical_cores(), usable_cpus())
    assert CpuPlatform(threads=1).threads == torch.get_num_threads() == 1


def test_devices_that_are_not_there_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown device 'tpu'"):
        create_platform("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="finds no CUDA device"):
            create_platform("cuda")


def test_a_pack_gives_back_what_was_put_in_whatever_changes_later() -> None:
    pack = HostPack()
    arrays = [
        np.arange(6, dtype=np.int64).reshape(2, 3),
        np.array([0.1, -np.inf, 3e300]),
        np.empty(0, dtype=np.int64),
        np.array([-5], dtype=np.int64),
    ]
    copies = [array.copy() for array in arrays]
    places = [pack.put(array) for array in arrays]
    sealed = pack.seal(CpuPlatform(threads=1))
    arrays[0][:] = 99
    tensors = sealed.send()
    for place, copy in zip(places, copies, strict=True):
        np.testing.assert_array_equal(tensors[place].numpy(), copy)
        assert tensors[place].numpy().dtype == copy.dtype


def test_a_pack_refuses_other_dtypes() -> None:
    with pytest.raises(TypeError, match="float32"):
        HostPack().put(np.zeros(3, dtype=np.float32))


@pytest.mark.parametrize(("given", "expected"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_kernel_threads_do_not_spin_unless_the_user_says_so(given: str | None, expected: str) -> None:
    environ = {**os.environ, "OMP_DISPLAY_ENV": "true", "PYTHONPATH": ":".join(sys.path)}
    environ.pop("OMP_WAIT_POLICY", None)
    if given is not None:
        environ["OMP_WAIT_POLICY"] = given
    code = "import hookline.worker.factory, torch; torch.ones(10) + 1"
    done = subprocess.run([sys.executable, "-c", code], env=environ, check=True, capture_output=True, text=True)
    assert f"OMP_WAIT_POLICY = '{expected}'" in done.stderr
