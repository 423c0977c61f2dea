"""Device facts, read without torch."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import pytest

from hookline.config import device
from hookline.config.device import probe_device


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_hidden_devices_are_no_devices(hidden: str) -> None:
    facts = probe_device({"CUDA_VISIBLE_DEVICES": hidden})
    assert not facts.has_cuda
    assert "hides all devices" in facts.reason


def test_without_a_driver_there_is_no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert probe_device({}).reason == "there is no NVIDIA driver"


class FakeNvml:
    """NVML with devices of the given capabilities; calls are recorded."""

    def __init__(self, *capabilities: tuple[int, int], working: bool = True) -> None:
        self.capabilities = capabilities
        self.working = working
        self.closed = False
        self.uuid = b""

    def nvmlInit_v2(self) -> int:  # noqa: N802 - NVML's name
        return 0 if self.working else 9

    def nvmlShutdown(self) -> int:  # noqa: N802
        self.closed = True
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: object, handle: object) -> int:  # noqa: N802
        self.index = index.value  # type: ignore[attr-defined]
        return 0 if self.index < len(self.capabilities) else 2

    def nvmlDeviceGetHandleByUUID(self, uuid: bytes, handle: object) -> int:  # noqa: N802
        self.uuid, self.index = uuid, 0
        return 0

    def nvmlDeviceGetCudaComputeCapability(self, handle: object, major: object, minor: object) -> int:  # noqa: N802
        major._obj.value, minor._obj.value = self.capabilities[self.index]  # type: ignore[attr-defined]
        return 0


def probe(monkeypatch: pytest.MonkeyPatch, nvml: FakeNvml, *, torch: bool = True, **environ: str) -> device.DeviceFacts:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: nvml)
    monkeypatch.setattr(device, "_torch_has_cuda", lambda: torch)
    return probe_device(environ)


def test_the_first_visible_device_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml((8, 0), (9, 0))
    assert probe(monkeypatch, nvml).capability == (8, 0)
    assert probe(monkeypatch, nvml, CUDA_VISIBLE_DEVICES="1,0").capability == (9, 0)
    assert probe(monkeypatch, nvml, CUDA_VISIBLE_DEVICES="GPU-12ab").capability == (8, 0)
    assert nvml.uuid == b"GPU-12ab"
    assert nvml.closed


def test_a_device_that_cannot_be_used_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    assert probe(monkeypatch, FakeNvml((9, 0), working=False)).reason == "the NVIDIA driver does not answer"
    assert probe(monkeypatch, FakeNvml()).reason == "the NVIDIA driver lists no device"
    facts = probe(monkeypatch, FakeNvml((9, 0)), torch=False)
    assert (facts.has_cuda, facts.reason) == (False, "there is a CUDA device, but torch was built without CUDA")


def test_torchs_build_is_read_from_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    assert device._torch_has_cuda() == (torch.version.cuda is not None)
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    for line, expected in (("cuda: Optional[str] = '13.0'", True), ("cuda = None", False)):
        (tmp_path / "torch" / "version.py").write_text(f"debug = False\n{line}\n")
        monkeypatch.setattr(sys, "path", [str(tmp_path)])
        monkeypatch.delitem(sys.modules, "torch", raising=False)
        assert device._torch_has_cuda() is expected
