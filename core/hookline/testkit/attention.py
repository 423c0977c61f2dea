"""AttentionSuite: a backend gives what dense attention gives, and touches nothing but a request's own tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hookline.batch.forward_batch import MaskKind
from hookline.batch.forward_mode import ForwardMode
from hookline.errors import HooklineError
from hookline.interfaces.attention import AttentionBackend, AttentionBackendSpec, AttentionEnv, AttentionLayerInfo
from hookline.interfaces.spec import Requirements
from hookline.testkit.allowed import allowed_dtypes, allowed_head_dims, allowed_page_sizes, device_of
from hookline.testkit.attention_cases import (
    DECODES,
    EXTENDS,
    MAX_CONTEXT_LEN,
    MIXES,
    PASSES,
    SOME,
    AttentionCase,
    Lengths,
    attention_case,
    layer_info,
)
from hookline.testkit.attention_graphs import CapturedPass
from hookline.testkit.device_tensors import on_busy_device, waiting_is_an_error
from hookline.testkit.exactness import worst_error
from hookline.testkit.offer_suite import OfferSuite
from hookline.testkit.properties import examples
from hookline.testkit.watched_options import watched


class AttentionSuite(OfferSuite[AttentionBackendSpec]):
    """Runs the backend over small passes. Page sizes, head dimensions and dtypes are those that the spec requires."""

    kind = "attention_backends"
    confirms: ClassVar[Mapping[str, str]] = {
        "mask.full": "test_a_full_mask_shows_the_whole_sequence",
        "mask.window": "test_a_window_shows_the_token_itself_and_those_before, test_layers_with_different_windows...",
        "mask.tree": "test_a_tree_mask_shows_the_prefix_and_the_ancestors",
        "softcap": "test_scores_are_capped",
        "sinks": "test_sinks_take_their_share",
        "graphs": "test_a_captured_pass_follows_the_device_tensors",
        "mixed": "test_mixed_passes",
        "deterministic": "test_deterministic_passes, test_deterministic_numbers_depend_on_the_request_alone",
    }

    #: "cpu" or "cuda"; by default CUDA only if the spec requires it. A backend for both has two test classes.
    device_type: ClassVar[str] = ""
    #: dtype -> the largest error of an output row (one head of one token), relative to its largest element.
    tolerances: ClassVar[Mapping[str, float]] = {"float32": 1e-5, "float16": 5e-3, "bfloat16": 4e-2}
    #: Set if values must have the size of keys; the backend must then raise for another ``v_head_dim``.
    equal_head_dims: ClassVar[bool] = False
    #: Options of the plugin that this backend does not read on this device.
    idle_options: ClassVar[frozenset[str]] = frozenset()

    # --- what runs the backend ---

    @classmethod
    def device(cls) -> torch.device:
        """Where the tests run; skips the test if there is no such device."""
        return device_of(cls.offer().spec.requires, cls.device_type)

    @classmethod
    def backend(cls, case: AttentionCase, **env: Any) -> AttentionBackend:
        """A backend for the case's sizes; ``env`` replaces fields of the ``AttentionEnv``."""
        layer = case.layers[0]
        facts = AttentionEnv(
            device=case.device,
            dtype=case.dtype,
            page_size=case.geometry.page_size,
            num_q_heads=layer.num_q_heads,
            num_kv_heads=layer.num_kv_heads,
            head_dim=layer.head_dim,
            max_context_len=MAX_CONTEXT_LEN,
            max_running_requests=64,
            options=cls.checked_options(),
        )
        backend = cls.target()(replace(facts, **env))
        assert isinstance(backend, AttentionBackend), "the target must be a subclass of AttentionBackend"
        return backend

    @classmethod
    def case(cls, lengths: Lengths, *layers: AttentionLayerInfo, **more: Any) -> AttentionCase:
        """A case of sizes that the spec allows, where ``more`` says nothing else; see ``attention_case``."""
        requires = cls.offer().spec.requires
        if not layers:
            layers = (cls.layer(),)
        more.setdefault("dtype", getattr(torch, allowed_dtypes(requires)[0]))
        more.setdefault("page_size", allowed_page_sizes(requires)[0])
        return attention_case(lengths, layers, device=cls.device(), **more)

    @classmethod
    def layer(cls, **more: Any) -> AttentionLayerInfo:
        """A layer of a head dimension that the spec allows; see ``layer_info``."""
        more.setdefault("head_dim", allowed_head_dims(cls.offer().spec.requires)[0])
        return layer_info(**more)

    @classmethod
    def run(cls, case: AttentionCase, backend: AttentionBackend | None = None, **env: Any) -> list[Tensor]:
        """The output of each layer, as the worker gets it: planned once, before K and V of the pass are stored."""
        backend = backend or cls.backend(case, **env)
        with torch.inference_mode():
            plan = backend.plan(case.geometry)
            backend.prepare(plan, case.geometry)
            case.store()
            return [
                backend.forward(q, k, v, layer, case.pool, plan)
                for q, k, v, layer in zip(case.q, case.k, case.v, case.layers, strict=True)
            ]

    @classmethod
    def check(cls, case: AttentionCase, backend: AttentionBackend | None = None, **env: Any) -> None:
        """Run the case and compare every layer."""
        for got, expected in zip(cls.run(case, backend, **env), case.expected, strict=True):
            cls.compare(got, expected, case.dtype)

    @classmethod
    def compare(cls, got: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
        """Fail unless an output is as exact as its dtype allows."""
        assert got.dtype == dtype, "the output has q's dtype"
        assert got.shape == expected.shape
        tolerance = cls.tolerances[str(dtype).removeprefix("torch.")]
        assert worst_error(got, expected) <= tolerance

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """What the spec requires decides which sizes are tested."""
        try:
            requires = self.offer().spec.requires
        except HooklineError:
            # Every test then says that there is no such offer.
            requires = Requirements()
        for argument, values in (
            ("page_size", allowed_page_sizes(requires)),
            ("head_dim", allowed_head_dims(requires)),
            ("dtype", allowed_dtypes(requires)),
        ):
            if argument in metafunc.fixturenames:
                metafunc.parametrize(argument, values)

    # --- the base contract ---

    @pytest.mark.parametrize("name", PASSES)
    def test_passes(self, name: str) -> None:
        mode, lengths = PASSES[name]
        self.check(self.case(lengths, mode=mode))

    @pytest.mark.parametrize("name", SOME)
    def test_page_sizes(self, name: str, page_size: int) -> None:
        mode, lengths = SOME[name]
        self.check(self.case(lengths, mode=mode, page_size=page_size))

    @pytest.mark.parametrize("name", ["decode", "extend"])
    @pytest.mark.parametrize("heads", [(4, 4), (8, 2), (8, 1), (6, 2), (16, 1)])
    def test_grouped_heads(self, heads: tuple[int, int], name: str) -> None:
        mode, lengths = SOME[name]
        self.check(self.case(lengths, self.layer(heads=heads), mode=mode))

    @pytest.mark.parametrize("name", ["decode", "extend"])
    def test_head_dims(self, name: str, head_dim: int) -> None:
        mode, lengths = SOME[name]
        self.check(self.case(lengths, self.layer(head_dim=head_dim), mode=mode))

    @pytest.mark.parametrize("name", SOME)
    def test_dtypes(self, name: str, dtype: str) -> None:
        mode, lengths = SOME[name]
        self.check(self.case(lengths, mode=mode, dtype=getattr(torch, dtype)))

    @pytest.mark.parametrize("name", ["decode", "extend"])
    def test_values_of_another_size_than_keys(self, name: str) -> None:
        mode, lengths = SOME[name]
        layer = self.layer()
        case = self.case(lengths, replace(layer, v_head_dim=layer.head_dim // 2), mode=mode)
        if not self.equal_head_dims:
            self.check(case)
            return
        with pytest.raises((ValueError, HooklineError), match=r"."):
            self.run(case)

    @pytest.mark.parametrize("name", ["decode", "extend"])
    def test_the_layer_says_the_scale(self, name: str) -> None:
        mode, lengths = SOME[name]
        self.check(self.case(lengths, self.layer(scale=0.31), mode=mode))

    @pytest.mark.parametrize("name", ["decode", "extend"])
    def test_long_context(self, name: str) -> None:
        new = 1 if name == "decode" else 5
        lengths = [(MAX_CONTEXT_LEN - new, new), (1200, new), (3, new)]
        self.check(self.case(lengths, self.layer(heads=(2, 1)), mode=SOME[name][0]))

    @pytest.mark.parametrize("name", SOME)
    def test_a_plan_serves_every_layer(self, name: str) -> None:
        mode, lengths = SOME[name]
        layers = [self.layer(layer_id=layer_id, scale=scale) for layer_id, scale in ((0, None), (3, 0.4), (7, None))]
        self.check(self.case(lengths, *layers, mode=mode))

    def test_one_backend_serves_passes_of_all_sizes(self) -> None:
        cases = [
            self.case(lengths, mode=mode, seed=seed) for seed, (mode, lengths) in enumerate(PASSES.values(), start=1)
        ]
        backend = self.backend(cases[0])
        for case in [*cases, *reversed(cases)]:
            self.check(case, backend)

    @examples(20)
    @given(
        lengths=st.lists(st.tuples(st.integers(0, 70), st.integers(1, 20)), min_size=1, max_size=6),
        window=st.none() | st.integers(1, 30),
        seed=st.integers(0, 1000),
    )
    def test_any_pass(self, lengths: list[tuple[int, int]], window: int | None, seed: int) -> None:
        """With a window where the backend declares it."""
        page_sizes = allowed_page_sizes(self.offer().spec.requires)
        layer = self.layer(window=window if self.has("mask.window") else None)
        self.check(self.case(lengths, layer, page_size=page_sizes[seed % len(page_sizes)], seed=seed))

    def test_an_idle_pass_gives_no_rows(self) -> None:
        (got,) = self.run(self.case([], mode=ForwardMode.IDLE))
        assert got.shape == (0, 4, self.layer().v_head_dim)

    @pytest.mark.parametrize("name", SOME)
    def test_planning_does_not_wait_for_the_device(self, name: str) -> None:
        mode, lengths = SOME[name]
        case = self.case(lengths, mode=mode)
        backend = self.backend(case)
        geometry = case.geometry
        with waiting_is_an_error(case.device), torch.inference_mode():
            if case.device.type == "cpu":
                geometry = replace(
                    geometry,
                    req_to_token=on_busy_device(geometry.req_to_token),
                    req_pool_indices=on_busy_device(geometry.req_pool_indices),
                    seq_lens=on_busy_device(geometry.seq_lens),
                    prefix_lens=on_busy_device(geometry.prefix_lens),
                    out_cache_loc=on_busy_device(geometry.out_cache_loc),
                )
            backend.prepare(backend.plan(geometry), geometry)

    @pytest.mark.parametrize("name", SOME)
    def test_inputs_and_cache_are_left_as_they_were(self, name: str) -> None:
        mode, lengths = SOME[name]
        case = self.case(lengths, mode=mode)
        case.store()
        geometry = case.geometry
        tensors = [geometry.req_to_token, geometry.seq_lens, geometry.out_cache_loc, *case.q, *case.k, *case.v]
        tensors.extend(case.pool.planes(0))
        before = [tensor.clone() for tensor in tensors]
        self.run(case)
        for tensor, old in zip(tensors, before, strict=True):
            assert torch.equal(tensor.nan_to_num(), old.nan_to_num())

    @pytest.mark.parametrize("name", SOME)
    def test_inputs_may_be_views_of_a_fused_projection(self, name: str) -> None:
        mode, lengths = SOME[name]
        case = self.case(lengths, mode=mode)
        fused = torch.cat((case.q[0], case.k[0], case.v[0]), dim=1)
        sizes = [case.q[0].shape[1], case.k[0].shape[1], case.v[0].shape[1]]
        q, k, v = torch.split(fused, sizes, dim=1)
        case.q, case.k, case.v = [q], [k], [v]
        self.check(case)

    def test_one_bad_request_spoils_no_other(self) -> None:
        """A prompt that makes a model overflow fails alone."""
        case = self.case([(10, 1), (20, 1), (5, 3), (20, 2)])
        (clean,) = self.run(case)
        row = case.geometry.req_pool_indices[1]
        for plane in case.pool.planes(0):
            plane[case.geometry.req_to_token[row, 3].long()] = float("nan")
        (got,) = self.run(case)
        assert torch.isnan(got[1]).all()
        others = [0, 2, 3, 4, 5, 6]
        self.compare(got[others], clean[others].double().cpu(), case.dtype)

    def test_offsets_beyond_31_bits(self) -> None:
        case = self.case([(10, 1), (3, 4)], dtype=getattr(torch, allowed_dtypes(self.offer().spec.requires)[-1]))
        if case.device.type == "cpu":
            pytest.skip("needs a CUDA device: kernels there may count in 32 bits")
        layer, page_size = case.layers[0], case.geometry.page_size
        pages = 2**31 // (layer.num_kv_heads * layer.head_dim) // page_size + 8
        shift = pages * page_size - case.pool.planes(0)[0].shape[0]
        far = [plane.new_empty(pages * page_size, *plane.shape[1:]) for plane in case.pool.planes(0)]
        for plane, near in zip(far, case.pool.planes(0), strict=True):
            plane[shift:] = near
        case.pool.replace(0, far[0], far[1])
        case.geometry.req_to_token = case.geometry.req_to_token + shift
        case.geometry.out_cache_loc = case.geometry.out_cache_loc + shift
        self.check(case)

    def test_options_are_read(self) -> None:
        """An option that nothing reads is a promise that is not kept."""
        options = self.checked_options()
        if options is None:
            pytest.skip("the plugin has no options")
        options, read = watched(options)
        for mode, lengths in SOME.values():
            self.check(self.case(lengths, mode=mode), options=options)
        assert sorted(set(type(options).model_fields) - read - self.idle_options) == [], "nobody read these options"

    # --- features ---

    @pytest.mark.parametrize("name", MIXES)
    def test_mixed_passes(self, name: str) -> None:
        self.need("mixed")
        self.check(self.case(MIXES[name], mode=ForwardMode.MIXED))

    @pytest.mark.parametrize("name", [name for name, lengths in EXTENDS.items() if not any(p for p, _ in lengths)])
    def test_a_full_mask_shows_the_whole_sequence(self, name: str) -> None:
        self.need("mask.full")
        self.check(self.case(EXTENDS[name], mask=MaskKind.FULL))

    @pytest.mark.parametrize("window", [1, 5, 64, 1000])
    @pytest.mark.parametrize("name", [*SOME, "extend, uneven", "extend, long"])
    def test_a_window_shows_the_token_itself_and_those_before(self, name: str, window: int) -> None:
        """``window`` tokens in all: itself and window - 1 before it."""
        self.need("mask.window")
        mode, lengths = {**PASSES, **SOME}[name]
        self.check(self.case(lengths, self.layer(window=window), mode=mode))

    @pytest.mark.parametrize("name", SOME)
    def test_layers_with_different_windows_share_a_plan(self, name: str) -> None:
        """The window of the pass holds for layers without their own."""
        self.need("mask.window")
        mode, lengths = SOME[name]
        layers = [self.layer(layer_id=layer_id, window=window) for layer_id, window in enumerate((None, 3, 40, None))]
        self.check(self.case(lengths, *layers, mode=mode))
        self.check(self.case(lengths, *layers, mode=mode, mask=MaskKind.WINDOW, window=8))

    @pytest.mark.parametrize("lengths", [[(20, 7)], [(0, 5)], [(30, 4), (0, 9), (7, 1), (100, 6)]], ids=str)
    def test_a_tree_mask_shows_the_prefix_and_the_ancestors(self, lengths: Lengths) -> None:
        self.need("mask.tree")
        for seed in range(3):
            self.check(self.case(lengths, mask=MaskKind.TREE, seed=seed))

    @pytest.mark.parametrize("name", SOME)
    def test_scores_are_capped(self, name: str) -> None:
        self.need("softcap")
        mode, lengths = SOME[name]
        layers = [self.layer(layer_id=0, softcap=1.5), self.layer(layer_id=1), self.layer(layer_id=2, softcap=0.3)]
        if self.has("mask.window"):
            layers.append(self.layer(layer_id=3, softcap=1.5, window=6))
        self.check(self.case(lengths, *layers, mode=mode))

    @pytest.mark.parametrize("name", SOME)
    def test_sinks_take_their_share(self, name: str) -> None:
        self.need("sinks")
        mode, lengths = SOME[name]
        sinks = torch.tensor([0.5, -2.0, 3.0, 9.0], device=self.device())
        layers = [self.layer(layer_id=0, sinks=sinks), self.layer(layer_id=1)]
        if self.has("mask.window"):
            layers.append(self.layer(layer_id=2, sinks=sinks, window=6))
        self.check(self.case(lengths, *layers, mode=mode))

    def test_a_captured_pass_follows_the_device_tensors(self) -> None:
        """Captured on CUDA; elsewhere ``prepare`` and ``forward`` run again, on changed tensors.

        Before each run ``replan`` is told the lengths. Batches that are smaller than the captured one are padded.
        """
        self.need("graphs")
        layers = [self.layer(layer_id=0), self.layer(layer_id=1, scale=0.3)]
        passes: list[Lengths] = [
            [(10, 1), (3, 1), (200, 1)],
            [(0, 1), (999, 1), (1, 1)],
            [(MAX_CONTEXT_LEN - 1, 1), (17, 1), (64, 1)],
        ]
        cases = [
            self.case(lengths, *layers, mode=ForwardMode.DECODE, num_pages=MAX_CONTEXT_LEN + 300, seed=seed)
            for seed, lengths in enumerate(passes)
        ]
        captured = CapturedPass(self.backend(cases[0]), cases[0])
        for num_padding, case in ((0, cases[0]), (1, cases[1]), (0, cases[2]), (2, cases[2]), (0, cases[0])):
            num_real = len(case.expected[0]) - num_padding
            outputs = captured.replay(case, num_padding=num_padding)
            for got, expected in zip(outputs, case.expected, strict=True):
                self.compare(got[:num_real], expected[:num_real], case.dtype)

    @pytest.mark.parametrize("name", [*DECODES, "extend", "extend, uneven", "extend, one after a prefix"])
    def test_deterministic_passes(self, name: str) -> None:
        self.need("deterministic")
        mode, lengths = {**PASSES, **SOME}[name]
        layers = [self.layer(layer_id=0), self.layer(layer_id=1, scale=0.3)]
        if self.has("mask.window"):
            layers.append(self.layer(layer_id=2, window=6))
        self.check(self.case(lengths, *layers, mode=mode), deterministic=True)
        if self.has("mask.full") and not mode.is_decode:
            self.check(self.case(lengths, mask=MaskKind.FULL), deterministic=True)

    @pytest.mark.parametrize("window", [None, 6])
    def test_deterministic_numbers_depend_on_the_request_alone(self, window: int | None) -> None:
        """The same bits alone and in a batch, in one piece and in chunks."""
        self.need("deterministic")
        if window is not None:
            self.need("mask.window")
        lengths = [(0, 40), (31, 9), (300, 1), (12, 1)]
        case = self.case(lengths, self.layer(window=window))
        (together,) = self.run(case, deterministic=True)
        start = 0
        for index, (_, new) in enumerate(lengths):
            for cut in sorted({1, 7, new}):
                parts = [
                    self.run(case.piece(index, first, min(cut, new - first)), deterministic=True)[0]
                    for first in range(0, new, cut)
                ]
                assert torch.equal(torch.cat(parts), together[start : start + new])
            start += new
