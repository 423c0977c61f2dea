"""Times the Triton kernels on a GPU, beside what torch does, as a share of the memory bandwidth measured there.

    PYTHONPATH=core HOOKLINE_SOURCE_TREE=plugins python benchmarks/kernels.py [--only NAME] [--page-size N]

Every case is checked against its reference before it is timed. A time is the median of replays of a captured graph,
over inputs that do not fit into the cache together. Shapes are those of Qwen3-0.6B and of the text half of
Qwen3-30B-A3B.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from replays import DEVICE, DTYPE, copies, copy_bandwidth, randn, replay_time
from torch import Tensor

from hookline.batch.forward_batch import AttentionGeometry
from hookline.batch.forward_mode import ForwardMode
from hookline.interfaces.attention import AttentionEnv, AttentionLayerInfo
from hookline.layers.ops import OPS, Ops
from hookline.plugins.manager import load_plugins
from hookline.plugins.options import load_config_model
from hookline.plugins.plan import PluginPlan
from hookline.plugins.resolve import choose


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    case: str
    microseconds: float
    #: The same by core's references (attention: by torch's scaled_dot_product_attention on dense keys).
    torch_microseconds: float
    gigabytes: float
    #: Share of the bandwidth of a large copy.
    of_bandwidth: float
    #: ||out - reference|| / ||reference||, against float32.
    error: float


@dataclass(slots=True, kw_only=True)
class Case:
    """One kernel at one shape: several sets of inputs, the calls, and the bytes that one call must move."""

    name: str
    sets: list[tuple[Any, ...]]
    ours: Callable[..., Any]
    theirs: Callable[..., Any]
    exact: Callable[..., Any]
    num_bytes: int


class Registered:
    """The shipped implementations, found as an engine finds them."""

    def __init__(self, page_size: int) -> None:
        #: Tokens per page in attention cases.
        self.page_size = page_size
        registry = load_plugins()
        self._plan = PluginPlan(source_paths=registry.source_paths)
        self._registry = registry
        sets = {offer.spec.name: offer for offer in registry.of_kind("ops")}
        chosen = choose(sets["triton"])
        self.triton = self._plan.load(chosen)(DEVICE, DTYPE, None)
        target = chosen.details["deterministic_target"]
        self.deterministic = self._plan.load(msgspec.structs.replace(chosen, target=target))(DEVICE, DTYPE, None)
        self.reference = {name: Ops().request(op) for name, op in OPS.items()}

    def attention(self, name: str, env: AttentionEnv, options: Mapping[str, str]) -> Any:
        """A backend with options of its plugin."""
        (offer,) = (offer for offer in self._registry.of_kind("attention_backends") if offer.spec.name == name)
        model = load_config_model(self._registry.plugin(offer.plugin))
        chosen = None if model is None else model.model_validate(dict(options))
        return self._plan.load(choose(offer))(replace(env, options=chosen))


def row_cases(found: Registered) -> Iterator[Case]:
    for tokens in (1, 16, 256, 8192):
        for hidden in (1024, 2048):
            size = tokens * hidden * 2
            yield Case(
                name=f"fused_add_rms_norm {tokens}x{hidden}",
                sets=[(randn(tokens, hidden), randn(tokens, hidden), randn(hidden), 1e-6) for _ in range(copies(size))],
                ours=found.triton["fused_add_rms_norm"],
                theirs=found.reference["fused_add_rms_norm"],
                exact=lambda x, r, w, eps: found.reference["rms_norm"](x.float() + r.float(), w.float(), eps),
                num_bytes=4 * size,
            )
        for heads, kv_heads in ((16, 8), (32, 4)):
            width = (heads + 2 * kv_heads) * 128
            norms = randn(heads + kv_heads, 128)

            def exact(qkv: Tensor, w: Tensor, eps: float, cos: Tensor, sin: Tensor, q: int, kv: int) -> Tensor:
                turned = found.reference["qk_norm_rope"](qkv.float(), w.float(), eps, cos.float(), sin.float(), q, kv)
                return turned[0]

            angles = torch.randn(tokens, 1, 128, device=DEVICE).to(DTYPE)
            yield Case(
                name=f"qk_norm_rope {tokens}x({heads}+2*{kv_heads})x128",
                sets=[
                    (randn(tokens, width), norms, 1e-6, angles, angles, heads, kv_heads)
                    for _ in range(copies(tokens * width * 2))
                ],
                ours=found.triton["qk_norm_rope"],
                theirs=found.reference["qk_norm_rope"],
                exact=exact,
                num_bytes=2 * tokens * (heads + kv_heads) * 128 * 2,
            )


def moe_cases(found: Registered) -> Iterator[Case]:
    """Qwen3-30B-A3B: 128 experts of 768, 8 a token, hidden 2,048."""
    experts, width, hidden, top_k = 128, 768, 2048, 8
    for tokens in (1, 16, 256):
        routers = [randn(experts, hidden, scale=hidden**-0.5) for _ in range(64)]
        norm = randn(hidden)
        yield Case(
            name=f"add_norm_route {tokens} tokens",
            sets=[
                (randn(tokens, hidden), randn(tokens, hidden), norm, 1e-6, router, top_k, True) for router in routers
            ],
            ours=found.triton["add_norm_route"],
            theirs=found.reference["add_norm_route"],
            exact=lambda x, r, w, eps, router, k, renormalize: found.reference["add_norm_route"](
                x.float(), r.float(), w.float(), eps, router.float(), k, renormalize
            ),
            num_bytes=experts * hidden * 2 + 4 * tokens * hidden * 2,
        )
    w13, w2 = randn(experts, 2 * width, hidden, scale=hidden**-0.5), randn(experts, hidden, width, scale=width**-0.5)
    for tokens in (1, 2, 4, 8, 16, 64, 256, 2048, 8192, 16384):
        sets = []
        for _ in range(8):
            weights, ids = found.reference["topk_softmax"](randn(tokens, experts), top_k, True)
            sets.append((randn(tokens, hidden), w13, w2, weights, ids))
        used = sum(len(set(ids.flatten().tolist())) for *_, ids in sets) / len(sets)
        yield Case(
            name=f"fused_moe {tokens} tokens",
            sets=sets,
            ours=found.triton["fused_moe"],
            theirs=found.reference["fused_moe"],
            exact=lambda x, a, b, weights, ids: found.reference["fused_moe"](
                x.float(), a.float(), b.float(), weights, ids
            ),
            num_bytes=int(used * 3 * width * hidden * 2 + 2 * tokens * hidden * 2),
        )


def sampling_cases(found: Registered) -> Iterator[Case]:
    """A vocabulary of 151,936; a draw reads the logits several times and counts once here."""
    vocab_size = 151_936
    for rows in (1, 16, 256):
        size = rows * vocab_size * 4
        logits = [torch.randn(rows, vocab_size, device=DEVICE) * 3 for _ in range(min(16, copies(size)))]
        yield Case(
            name=f"argmax {rows} rows",
            sets=[(some,) for some in logits],
            ours=found.triton["argmax"],
            theirs=found.reference["argmax"],
            exact=found.reference["argmax"],
            num_bytes=size,
        )
        words = torch.randint(-(2**31), 2**31, (rows, vocab_size // 32), device=DEVICE).int()
        yield Case(
            name=f"apply_bitmask {rows} rows",
            sets=[(some.clone(), torch.arange(rows, device=DEVICE), words) for some in logits],
            ours=lambda x, r, w: found.triton["apply_bitmask"](x, r, w).nan_to_num(neginf=0.0),
            theirs=lambda x, r, w: found.reference["apply_bitmask"](x, r, w).nan_to_num(neginf=0.0),
            exact=lambda x, r, w: found.reference["apply_bitmask"](x, r, w).nan_to_num(neginf=0.0),
            num_bytes=size,
        )
        ones = torch.ones(rows, device=DEVICE, dtype=torch.float64)
        top_k = torch.full((rows,), 50, device=DEVICE)
        for what, k, p, bound in (
            ("no filter", None, None, 0),
            ("top-k", top_k, None, 50),
            ("top-p", None, ones * 0.9, vocab_size),
            ("top-k and top-p", top_k, ones * 0.9, 50),
        ):
            yield Case(
                name=f"sample_tokens {rows} rows, {what}",
                sets=[(some, some.amax(-1), None, ones, k, p, None, torch.rand_like(ones), bound) for some in logits],
                ours=found.triton["sample_tokens"],
                theirs=found.reference["sample_tokens"],
                exact=found.reference["sample_tokens"],
                num_bytes=size,
            )


def deterministic_cases(found: Registered) -> Iterator[Case]:
    """Batch-invariant products beside torch's, which are not."""
    for inputs, outputs in ((1024, 4096), (2048, 1024), (1024, 6144), (3072, 1024), (1024, 151_936)):
        weights = [randn(outputs, inputs, scale=inputs**-0.5) for _ in range(min(16, copies(2 * inputs * outputs)))]
        for tokens in (1, 16, 256, 8192):
            if tokens * outputs > 1 << 28:
                continue
            yield Case(
                name=f"deterministic linear {tokens}x{inputs}->{outputs}",
                sets=[(randn(tokens, inputs), weight, None) for weight in weights],
                ours=found.deterministic["linear"],
                theirs=found.reference["linear"],
                exact=lambda x, w, b: found.reference["linear"](x.float(), w.float(), None),
                num_bytes=2 * (tokens * inputs + inputs * outputs + tokens * outputs),
            )


#: Backend and options, by the name in a case. Those of flashinfer are left out where it is not installed.
ATTENTION: dict[str, tuple[str, dict[str, str]]] = {
    "triton": ("triton", {}),
    "flashinfer": ("flashinfer", {}),
    "fa2": ("flashinfer", {"flashinfer_prefill_kernel": "fa2"}),
    "fa3": ("flashinfer", {"flashinfer_prefill_kernel": "fa3"}),
    "tensor_cores": ("flashinfer", {"flashinfer_decode_kernel": "tensor_cores"}),
    "cuda_cores": ("flashinfer", {"flashinfer_decode_kernel": "cuda_cores"}),
}
PREFILLS, DECODES = ("triton", "fa2", "fa3"), ("triton", "tensor_cores", "cuda_cores")
#: (requests, tokens of each, new ones of them).
ATTENTION_SHAPES = (
    (1, 1024, 1),
    (1, 8192, 1),
    (64, 2048, 1),
    (256, 1024, 1),
    (4, 2048, 2048),
    (8, 4096, 256),
)


def attention_cases(found: Registered) -> Iterator[Case]:
    for heads in ((16, 8), (32, 4)):
        for shape in ATTENTION_SHAPES:
            for name in DECODES if shape[2] == 1 else PREFILLS:
                if ATTENTION[name][0] != "flashinfer" or importlib.util.find_spec("flashinfer"):
                    yield attention_case(found, name, shape, heads)


def attention_case(found: Registered, name: str, shape: tuple[int, int, int], heads: tuple[int, int]) -> Case:
    batch, context, new = shape
    page_size, slots = found.page_size, batch * context
    env = AttentionEnv(
        device=DEVICE, dtype=DTYPE, page_size=page_size, num_q_heads=heads[0], num_kv_heads=heads[1], head_dim=128,
        max_context_len=context, max_running_requests=batch,
    )  # fmt: skip
    layer = AttentionLayerInfo(
        layer_id=0, num_q_heads=heads[0], num_kv_heads=heads[1], head_dim=128, v_head_dim=128, scale=128**-0.5
    )
    backend_name, options = ATTENTION[name]
    backend = found.attention(backend_name, env, options)
    pages = torch.randperm(slots // page_size, device=DEVICE) + 1
    table = (pages[:, None] * page_size + torch.arange(page_size, device=DEVICE)).view(batch, context).int()
    lens = torch.full((batch,), context, device=DEVICE)
    geometry = AttentionGeometry(
        mode=ForwardMode.DECODE if new == 1 else ForwardMode.EXTEND,
        req_to_token=table,
        req_pool_indices=torch.arange(batch, device=DEVICE),
        seq_lens=lens,
        prefix_lens=lens - new,
        seq_lens_cpu=[context] * batch,
        prefix_lens_cpu=[context - new] * batch,
        extend_lens_cpu=[new] * batch,
        out_cache_loc=table[:, context - new :].flatten().long(),
        page_size=page_size,
    )
    if new == 1:
        plan = backend.plan_capture(geometry)
        backend.replan(plan, np.array(geometry.seq_lens_cpu))
    else:
        plan = backend.plan(geometry)
    backend.prepare(plan, geometry)
    num_bytes = slots * heads[1] * 128 * 2 * 2

    def ours(q: Tensor, pool: Any) -> Tensor:
        out: Tensor = backend.forward(q, *pool.new, layer, pool, plan)
        return out

    def dense(q: Tensor, pool: Any, kind: torch.dtype = DTYPE) -> Tensor:
        k, v = (plane[table.long()].transpose(1, 2).to(kind) for plane in pool.planes(0))
        queries = q.to(kind).view(batch, new, -1, 128).transpose(1, 2)
        mask = torch.ones(new, context, dtype=torch.bool, device=DEVICE).tril(context - new)
        out = torch.nn.functional.scaled_dot_product_attention(queries, k, v, attn_mask=mask, enable_gqa=True)
        return out.transpose(1, 2).reshape(batch * new, -1, 128)

    return Case(
        name=f"attention {batch}x{context}, {new} new, {heads[0]}/{heads[1]} {name}",
        sets=[
            (randn(batch * new, heads[0], 128), Pool(slots + page_size, heads[1], geometry.out_cache_loc))
            for _ in range(min(4, copies(num_bytes)))
        ],
        ours=ours,
        theirs=dense,
        exact=lambda q, pool: dense(q, pool, torch.float32),
        num_bytes=num_bytes + 2 * batch * new * heads[0] * 128 * 2,
    )


class Pool:
    """One layer's keys and values; those of the slots ``new`` are at hand in order too, as a projection leaves them."""

    def __init__(self, num_slots: int, kv_heads: int, new: Tensor) -> None:
        self._k, self._v = randn(num_slots, kv_heads, 128), randn(num_slots, kv_heads, 128)
        self.new = self._k[new], self._v[new]

    def planes(self, layer_id: int) -> tuple[Tensor, Tensor]:
        return self._k, self._v


def first(result: Any) -> Tensor:
    """The result, or the first of several."""
    return result[0] if isinstance(result, tuple) else result


def cloned(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Ops may write into their arguments."""
    return tuple(value.clone() if isinstance(value, Tensor) and value.dim() <= 2 else value for value in arguments)


def measure(case: Case, bandwidth: float) -> Timing:
    with torch.inference_mode():
        exact = first(case.exact(*cloned(case.sets[0]))).float()
        got = first(case.ours(*cloned(case.sets[0]))).float()
        error = float((got - exact).norm() / exact.norm())
        ours = replay_time(case.ours, case.sets)
        theirs = replay_time(case.theirs, case.sets[:2])
    return Timing(
        case=case.name,
        microseconds=ours,
        torch_microseconds=theirs,
        gigabytes=case.num_bytes / 1e9,
        of_bandwidth=case.num_bytes / ours / bandwidth,
        error=error,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="cases whose name begins so")
    parser.add_argument("--page-size", type=int, choices=(1, 16, 64), default=1, help="of attention cases")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("this measures kernels on a CUDA device, and there is none here")
    torch.manual_seed(0)
    found, bandwidth = Registered(options.page_size), copy_bandwidth()
    sys.stdout.write(f"{torch.cuda.get_device_name()}: copies at {bandwidth / 1e6:.2f} TB/s\n")
    sys.stdout.write(f"{'case':50} {'us':>9} {'torch us':>9} {'of copy':>8} {'error':>8}\n")
    timings = []
    for make in (row_cases, moe_cases, sampling_cases, deterministic_cases, attention_cases):
        for case in make(found):
            if not case.name.startswith(options.only):
                continue
            timing = measure(case, bandwidth)
            timings.append(timing)
            sys.stdout.write(
                f"{timing.case:50} {timing.microseconds:9.1f} {timing.torch_microseconds:9.1f} "
                f"{timing.of_bandwidth:7.0%} {timing.error:8.1e}\n"
            )
            sys.stdout.flush()
    if options.json:
        options.json.write_text(json.dumps([asdict(timing) for timing in timings], indent=1) + "\n")


if __name__ == "__main__":
    main()
