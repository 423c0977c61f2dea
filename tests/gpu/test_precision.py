"""Numbers count only with correct output: how far the logits of 16-bit engines are from the truth in float32.

The measure is transformers' own error in bfloat16 with the same weights: no backend and no op set may be more than half
as far again from the truth, in prefills and in decodes, with graphs and without.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from hookline.bench.model_shapes import MODEL_SHAPES
from hookline.platform import create_platform
from hookline.plugins.context import Context, unmet
from hookline.worker.factory import build_worker
from hookline.worker.worker import LocalWorker
from hookline_attention.plugin import hookline_attention_backends
from hookline_kernels.plugin import hookline_ops
from tests.factories.teacher_forcing import ForcedLogits, expected_logits, forced_logits, rms_error
from tests.factories.worker_plans import chosen, make_plan

pytestmark = pytest.mark.gpu

DEMO = Path(__file__).parents[2] / "plugins" / "demo" / "hookline_demo" / "checkpoint"
#: Tokens that stand for themselves in the demo and in the shapes.
ORDINARY = 4000
BATCHES = (1, 3, 17)
LENGTH, STEPS, LAYERS = 48, 6, 4
FACTOR = 1.5
#: Op sets whose experts do not read sizes on the host, which a capture forbids.
CAPTURED = {"triton"}
OP_SETS = {spec.name: spec for spec in hookline_ops()}


def prompt_lens(batch_size: int) -> list[int]:
    return [2 + (11 * index) % (LENGTH - STEPS - 2) for index in range(batch_size)]


@functools.cache
def backends() -> list[str]:
    """The attention backends that can run here."""
    if not torch.cuda.is_available():
        return ["triton"]
    context = Context(device="cuda", capability=torch.cuda.get_device_capability())
    return [spec.name for spec in hookline_attention_backends() if not unmet(spec.requires, context)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A checkpoint, rows of tokens, and what transformers makes of them."""

    path: Path
    rows: list[list[int]]
    #: [B, T, V]: in float32, and what transformers makes of them in bfloat16.
    truth: torch.Tensor
    rounded: torch.Tensor

    def check(self, found: Mapping[int, ForcedLogits]) -> None:
        """Batch size -> its logits. Errors are those of all batches together: a few tokens more or less whose router
        is undecided would decide about the error of a small one."""
        for part in ("prompts", "decoded"):
            ours: list[tuple[torch.Tensor, torch.Tensor]] = []
            theirs: list[tuple[torch.Tensor, torch.Tensor]] = []
            for batch_size, got in found.items():
                lens = prompt_lens(batch_size)
                exact = getattr(expected_logits(self.truth[:batch_size], lens, STEPS), part)
                rounded = getattr(expected_logits(self.rounded[:batch_size], lens, STEPS), part)
                ours.append((getattr(got, part), exact))
                theirs.append((rounded, exact))
            error, allowed = pooled_error(ours), FACTOR * pooled_error(theirs)
            assert error <= allowed, f"{part}: {error:.5f}, allowed {allowed:.5f}"


def pooled_error(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> float:
    """Root mean square over the elements of all pairs."""
    counts = [exact.numel() for _, exact in pairs]
    squares = [rms_error(got, exact) ** 2 for got, exact in pairs]
    return math.sqrt(sum(n * square for n, square in zip(counts, squares, strict=True)) / sum(counts))


def make_subject(path: Path, model: Any) -> Subject:
    """``model`` in bfloat16, on its device; it is changed to float32."""
    rng = random.Random(7)
    rows = [[rng.randrange(5, ORDINARY) for _ in range(LENGTH)] for _ in range(BATCHES[-1])]
    ids = torch.tensor(rows, device=model.device)
    with torch.inference_mode():
        rounded = model(input_ids=ids).logits
        truth = model.float()(input_ids=ids).logits.float()
    return Subject(path=path, rows=rows, truth=truth, rounded=rounded)


def make_shape(path: Path, shape: str, device: str, **changes: Any) -> Subject:
    """A few layers of a published shape with random weights of the scale that models begin with."""
    values = {**MODEL_SHAPES[shape], "num_hidden_layers": LAYERS, **changes}
    theta = values.pop("rope_theta")
    values.pop("torch_dtype")
    values["rope_parameters"] = {"rope_type": "default", "rope_theta": theta}
    config = transformers.AutoConfig.for_model(**values)
    torch.manual_seed(0)
    with torch.device(device):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 1:
                    parameter += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(path)
    return make_subject(path, model)


@pytest.fixture(scope="module")
def demo() -> Iterator[Subject]:
    # The checkpoint's weights rounded once, so that both see the same ones.
    model: Any = transformers.AutoModelForImageTextToText.from_pretrained(DEMO, dtype=torch.bfloat16)
    yield make_subject(DEMO, model.to("cuda").eval())
    torch.cuda.empty_cache()


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    yield make_shape(tmp_path_factory.mktemp("precision") / "dense", "qwen3-0.6b", "cuda")
    torch.cuda.empty_cache()


@pytest.fixture(scope="module")
def sparse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    yield make_shape(tmp_path_factory.mktemp("precision") / "sparse", "qwen3-30b-a3b", "cuda")
    torch.cuda.empty_cache()


def make_worker(
    path: Path, attention: str, ops: str, *, dtype: str = "bfloat16", graphs: bool = True, device: str = "cuda"
) -> LocalWorker:
    plan = make_plan(
        path,
        attention=attention,
        extra=(chosen(OP_SETS[ops]),),
        # Short, so that decodes are cut alike whatever lengths a plan knows of.
        model={"dtype": dtype, "max_model_len": 64},
        execution={"device": device, "disable_cuda_graph": not graphs},
        schedule={"max_running_requests": BATCHES[-1], "max_prefill_tokens": 1024},
        cache={"kv_cache_tokens": 2048},
    )
    return build_worker(plan, platform=create_platform(device))


def check(subject: Subject, worker: LocalWorker) -> None:
    subject.check(
        {
            batch_size: forced_logits(worker, subject.rows[:batch_size], prompt_lens(batch_size), STEPS)
            for batch_size in BATCHES
        }
    )
    worker.close()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("ops", OP_SETS)
@pytest.mark.parametrize("attention", backends())
def test_every_backend_and_op_set_is_exact_enough_on_the_demo(
    demo: Subject, attention: str, ops: str, dtype: str
) -> None:
    check(demo, make_worker(demo.path, attention, ops, dtype=dtype, graphs=ops in CAPTURED))


VARIANTS = [
    *((attention, "triton", True) for attention in backends()),
    ("triton", "triton", False),
    ("triton", "torch", False),
]


@pytest.mark.parametrize(("attention", "ops", "graphs"), VARIANTS)
@pytest.mark.parametrize("shape", ["dense", "sparse"])
def test_published_shapes_are_exact_enough(
    shape: str, attention: str, ops: str, graphs: bool, request: pytest.FixtureRequest
) -> None:
    subject: Subject = request.getfixturevalue(shape)
    check(subject, make_worker(subject.path, attention, ops, graphs=graphs))


def test_graphs_change_no_bits(dense: Subject) -> None:
    """With the same kernels: batch sizes that have a graph of their own, so that nothing is padded."""
    captured, plain = (make_worker(dense.path, "triton", "triton", graphs=graphs) for graphs in (True, False))
    for batch_size in (1, 4, 16):
        lens = prompt_lens(batch_size)
        rows = dense.rows[:batch_size]
        with_graphs, without = (forced_logits(worker, rows, lens, STEPS) for worker in (captured, plain))
        assert torch.equal(with_graphs.decoded, without.decoded), batch_size
    captured.close()
    plain.close()
