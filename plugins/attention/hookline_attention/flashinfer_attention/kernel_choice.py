"""Which of FlashInfer's kernels run: by the options, the device and the ratio of heads."""

from __future__ import annotations

from hookline.errors import ConfigError

#: Query heads a key-value head that FlashInfer's decode without tensor cores is compiled for.
CUDA_CORE_GROUPS = (1, 2, 3, 4, 8)
#: From here on a decode reads keys once for so many heads that the tensor cores pay.
TENSOR_CORE_GROUP = 4
_HOPPER = 9


def prefill_kernel(wanted: str, capability: tuple[int, int]) -> str:
    """ "fa2" or "fa3"; ``ConfigError`` if fa3 is wanted where it does not run."""
    if wanted == "auto":
        return "fa3" if capability[0] == _HOPPER else "fa2"
    if wanted == "fa3" and capability[0] != _HOPPER:
        raise ConfigError(
            "plugins.attention.flashinfer_prefill_kernel is 'fa3', whose kernels run on Hopper (compute capability "
            f"9.x) alone; the device has {capability[0]}.{capability[1]}: use 'fa2' or 'auto'"
        )
    return wanted


def decode_uses_tensor_cores(wanted: str, group: int) -> bool:
    """``group``: query heads a key-value head. ``ConfigError`` for a group that the wanted kernels do not have."""
    if wanted == "cuda_cores" and group not in CUDA_CORE_GROUPS:
        raise ConfigError(
            "plugins.attention.flashinfer_decode_kernel is 'cuda_cores', whose kernels take "
            f"{', '.join(map(str, CUDA_CORE_GROUPS))} query heads a key-value head; the model has {group}: use "
            "'tensor_cores' or 'auto'"
        )
    if wanted == "auto":
        return group >= TENSOR_CORE_GROUP or group not in CUDA_CORE_GROUPS
    return wanted == "tensor_cores"
