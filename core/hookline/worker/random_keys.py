"""Random numbers from counters: each draw is a pure function of (seed, choice, position).

No generator state: a request draws the same numbers alone, beside others, and after a retraction.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_MUL_1 = 0xBF58476D1CE4E5B9
_MUL_2 = 0x94D049BB133111EB


def request_key(seed: int, choice_index: int, *, seeded: bool = True) -> np.uint64:
    """The key of one choice of a request. ``seeded`` keeps chosen seeds apart from derived ones."""
    key = _mix_int(seed & _MASK)
    key = _mix_int(key ^ (choice_index + 1))
    return np.uint64(_mix_int(key ^ (1 if seeded else 2) << 32))


def uniforms(keys: npt.NDArray[np.uint64], positions: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """One number in [0, 1) for each (key, position)."""
    words = _mix(keys + positions.astype(np.uint64) * np.uint64(_GOLDEN))
    # 52 bits: times any total, the product stays below the total, so that the last token is in reach
    # but nothing beyond it.
    return (words >> np.uint64(12)).astype(np.float64) * 2.0**-52


def _mix(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finaliser of splitmix64."""
    words = words + np.uint64(_GOLDEN)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(_MUL_1)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(_MUL_2)
    return words ^ (words >> np.uint64(31))


def _mix_int(word: int) -> int:
    word = (word + _GOLDEN) & _MASK
    word = ((word ^ (word >> 30)) * _MUL_1) & _MASK
    word = ((word ^ (word >> 27)) * _MUL_2) & _MASK
    return word ^ (word >> 31)
