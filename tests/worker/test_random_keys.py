"""Counter-based random numbers."""

from __future__ import annotations

import numpy as np

from hookline.worker.random_keys import request_key, uniforms


def keys(*values: np.uint64) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    return np.array(values, dtype=np.uint64)


def test_numbers_are_spread_evenly_over_positions_and_over_keys() -> None:
    many_positions = uniforms(np.repeat(keys(request_key(7, 0)), 40_000), np.arange(40_000))
    many_keys = uniforms(keys(*(request_key(seed, 0) for seed in range(5_000))), np.full(5_000, 17))
    for numbers in (many_positions, many_keys):
        assert numbers.min() >= 0.0
        assert numbers.max() < 1.0
        steps = np.arange(1, numbers.size + 1) / numbers.size
        # The Kolmogorov-Smirnov distance of even numbers stays below 1.63 / sqrt(n) in 99 of 100 cases.
        assert np.abs(np.sort(numbers) - steps).max() < 1.63 / np.sqrt(numbers.size)
    lagged = np.corrcoef(many_positions[:-1], many_positions[1:])[0, 1]
    assert abs(lagged) < 0.02


def test_seed_choice_and_origin_all_matter() -> None:
    found = {
        int(request_key(seed, choice, seeded=seeded))
        for seed in (-1, 0, 1, 2**40, 2**63 - 1, -(2**63))
        for choice in range(8)
        for seeded in (True, False)
    }
    assert len(found) == 6 * 8 * 2


def test_seeds_keep_their_numbers_over_releases() -> None:
    # A change here changes the output of every seeded request: note it in the release.
    numbers = uniforms(keys(request_key(42, 0), request_key(42, 1)), np.array([10, 11]))
    assert numbers.tolist() == [0.6258919470139674, 0.35802707035690395]
