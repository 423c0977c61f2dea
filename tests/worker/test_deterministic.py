"""execution.deterministic: the same bits for a request alone, in company, and however its prompt is cut."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from hookline.batch.worker_batch import LogprobSpec
from hookline.interfaces.kernels import OpSetSpec
from hookline.layers import ops
from hookline.sampling_params import SamplingParams
from hookline.worker.factory import build_worker
from tests.factories.checkpoints import make_checkpoint
from tests.factories.worker_driver import WorkerDriver
from tests.factories.worker_plans import chosen, make_plan
from tests.worker.conftest import MakeWorker
from tests.worker.test_worker import prompt

#: The best eight of each step: equal floats there mean equal bits in what was computed.
WISH = LogprobSpec(output=True, top=8)
SAMPLED = SamplingParams(temperature=1.0, seed=3)

Trace = list[tuple[int, list[tuple[int, float]]]]


@pytest.fixture(scope="module", params=["qwen3", "qwen3_moe", "llama"])
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Wide enough for matrix kernels to choose different ways for different numbers of rows.
    return make_checkpoint(
        tmp_path_factory.mktemp("deterministic") / request.param,
        request.param,
        hidden_size=256,
        intermediate_size=320,
        num_hidden_layers=2,
    )


def trace(
    make_worker: MakeWorker, path: Path, *, neighbours: int, chunk: int, deterministic: bool = True, steps: int = 6
) -> Trace:
    """Tokens and log-probabilities of one request."""
    driver = WorkerDriver(make_worker(path, execution={"deterministic": deterministic}, cache={"kv_cache_tokens": 600}))
    request = driver.start("a", prompt(21), SAMPLED, logprobs=WISH)
    others = [driver.start(f"n{i}", prompt(3 + 7 * i), SAMPLED.replace(seed=i)) for i in range(neighbours)]
    found = []
    while request.computed < 21:
        count = min(chunk, 21 - request.computed)
        company = [other for other in others if not other.output]
        decoding = [other for other in others if other.output]
        everyone = [*company, request, *decoding]
        counts = [*(len(other.prompt) for other in company), count]
        result = driver.read(driver.extend([*company, request], counts, decodes=decoding), everyone)
    place = everyone.index(request)
    while True:
        assert result.output_logprobs is not None
        (one,) = result.output_logprobs[place] or []
        found.append((one.token_id, one.top))
        if len(found) == steps:
            return found
        place = len(found) % (neighbours + 1)
        everyone = [*others[:place], request, *others[place:]]
        result = driver.read(driver.decode(everyone), everyone)


@pytest.mark.parametrize(("neighbours", "chunk"), [(3, 21), (6, 21), (0, 8), (0, 1), (2, 5)])
def test_results_are_bit_equal_alone_in_company_and_in_chunks(
    make_worker: MakeWorker, family: Path, neighbours: int, chunk: int
) -> None:
    alone = trace(make_worker, family, neighbours=0, chunk=21)
    assert trace(make_worker, family, neighbours=neighbours, chunk=chunk) == alone


OWN = OpSetSpec(
    name="own",
    target=f"{__name__}:fast_ops",
    deterministic_target=f"{__name__}:invariant_ops",
    ops=frozenset({"silu_and_mul"}),
)


def fast_ops(device: torch.device, dtype: torch.dtype, options: Any) -> dict[str, Any]:
    raise AssertionError("a deterministic engine has no use for these")


def invariant_ops(device: torch.device, dtype: torch.dtype, options: Any) -> dict[str, Any]:
    CALLED.append("made")
    return {"silu_and_mul": ops.silu_and_mul}


CALLED: list[str] = []


def test_op_sets_give_deterministic_engines_what_they_have_for_them(family: Path) -> None:
    CALLED.clear()
    plan = make_plan(family, extra=(chosen(OWN),), execution={"deterministic": True}, cache={"kv_cache_tokens": 64})
    build_worker(plan).close()
    assert CALLED == ["made"]
    # A set that has nothing for them is passed over.
    build_worker(
        make_plan(
            family,
            extra=(chosen(replace(OWN, deterministic_target="")),),
            execution={"deterministic": True},
            cache={"kv_cache_tokens": 64},
        )
    ).close()
    assert CALLED == ["made"]


def test_deterministic_results_are_those_of_the_fast_path_within_rounding(
    make_worker: MakeWorker, family: Path
) -> None:
    exact = trace(make_worker, family, neighbours=0, chunk=21)
    fast = trace(make_worker, family, neighbours=4, chunk=21, deterministic=False)
    assert [token for token, _ in fast] == [token for token, _ in exact]
    for (_, some), (_, others) in zip(fast, exact, strict=True):
        torch.testing.assert_close(
            torch.tensor([value for _, value in some]),
            torch.tensor([value for _, value in others]),
            atol=1e-4,
            rtol=1e-4,
        )
