"""Device facts without torch: what resolution must know before any process starts."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

#: ``cuda`` of torch/version.py, which says whether torch was built for CUDA.
_TORCH_CUDA = re.compile(r"^cuda\s*(?::[^=]*)?=\s*(.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFacts:
    """Whether CUDA can be used, and if not why."""

    has_cuda: bool
    #: Compute capability of the first visible device.
    capability: tuple[int, int] | None = None
    #: Why CUDA is there or not, for the log.
    reason: str


def probe_device(environ: Mapping[str, str] = os.environ) -> DeviceFacts:
    """Look for a CUDA device through NVML, which unlike CUDA itself starts nothing in this process.

    CUDA_VISIBLE_DEVICES is honoured. A torch built without CUDA makes the answer no.
    """
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    first = None if visible is None else visible.split(",")[0].strip()
    if first in ("", "-1", "NoDevFiles"):
        return DeviceFacts(has_cuda=False, reason=f"CUDA_VISIBLE_DEVICES={visible!r} hides all devices")
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return DeviceFacts(has_cuda=False, reason="there is no NVIDIA driver")
    if nvml.nvmlInit_v2() != 0:
        return DeviceFacts(has_cuda=False, reason="the NVIDIA driver does not answer")
    try:
        capability = _capability(nvml, first)
    finally:
        nvml.nvmlShutdown()
    if capability is None:
        return DeviceFacts(has_cuda=False, reason="the NVIDIA driver lists no device")
    if not _torch_has_cuda():
        return DeviceFacts(has_cuda=False, reason="there is a CUDA device, but torch was built without CUDA")
    return DeviceFacts(has_cuda=True, capability=capability, reason="a CUDA device is visible")


def cuda_device_name(environ: Mapping[str, str] = os.environ) -> str | None:
    """Name of the first visible CUDA device ("NVIDIA H200"); ``None`` where there is none. Asks NVML, not CUDA."""
    if not probe_device(environ).has_cuda:
        return None
    nvml = ctypes.CDLL("libnvidia-ml.so.1")
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if nvml.nvmlInit_v2() != 0:
        return None
    try:
        handle = _handle(nvml, None if visible is None else visible.split(",")[0].strip())
        name = ctypes.create_string_buffer(96)
        if handle is None or nvml.nvmlDeviceGetName(handle, name, ctypes.c_uint(len(name))) != 0:
            return None
        return name.value.decode(errors="replace")
    finally:
        nvml.nvmlShutdown()


def _handle(nvml: ctypes.CDLL, first: str | None) -> ctypes.c_void_p | None:
    """The device that CUDA_VISIBLE_DEVICES lists first (an index or a UUID)."""
    handle = ctypes.c_void_p()
    if first is not None and not first.isdigit():
        found = nvml.nvmlDeviceGetHandleByUUID(first.encode(), ctypes.byref(handle)) == 0
    else:
        found = nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(int(first or 0)), ctypes.byref(handle)) == 0
    return handle if found else None


def _capability(nvml: ctypes.CDLL, first: str | None) -> tuple[int, int] | None:
    """Compute capability of the device that CUDA_VISIBLE_DEVICES lists first."""
    handle = _handle(nvml, first)
    if handle is None:
        return None
    major, minor = ctypes.c_int(), ctypes.c_int()
    if nvml.nvmlDeviceGetCudaComputeCapability(handle, ctypes.byref(major), ctypes.byref(minor)) != 0:
        return None
    return major.value, minor.value


def _torch_has_cuda() -> bool:
    """Read from torch's files: importing torch takes a second and is not wanted in the launcher."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return False
    file = Path(spec.origin).with_name("version.py")
    match = _TORCH_CUDA.search(file.read_text(encoding="utf-8")) if file.is_file() else None
    # Without the file (a vendor's build) trust the driver.
    return match is None or match.group(1).strip() not in ("None", "''", '""')
