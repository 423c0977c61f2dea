"""OpSetSuite: every op of a set is the op of ``hookline.layers.ops`` with the same name, only faster."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from hookline.errors import HooklineError
from hookline.interfaces.kernels import OpSetSpec
from hookline.interfaces.spec import Requirements
from hookline.layers.ops import OPS, Ops
from hookline.testkit.allowed import allowed_dtypes, device_of
from hookline.testkit.exactness import worst_error
from hookline.testkit.offer_suite import OfferSuite
from hookline.testkit.op_cases import FILLS, MAY_WRITE, OP_CASES, ROW_ARGUMENTS, Draw
from hookline.testkit.watched_options import watched


class OpSetSuite(OfferSuite[OpSetSpec]):
    """Runs every op that the spec lists, in every dtype that it allows, beside core's reference."""

    kind = "ops"
    confirms: ClassVar[Mapping[str, str]] = {"deterministic": "test_deterministic_ops_do_not_depend_on_the_batch"}

    #: "cpu" or "cuda"; by default CUDA only if the spec requires it. A set for both has two test classes.
    device_type: ClassVar[str] = ""
    #: An op may be so many times as far from the truth as core's reference is in the same dtype...
    error_factor: ClassVar[float] = 2.0
    #: ...or this far, relative to the largest element of the row: dtype of the result -> error. A little more
    #: than rounding the exact result costs.
    tolerances: ClassVar[Mapping[str, float]] = {"float32": 1e-5, "float16": 1e-3, "bfloat16": 8e-3}
    #: Options of the plugin that this set does not read on this device.
    idle_options: ClassVar[frozenset[str]] = frozenset()

    # --- what runs the ops ---

    @classmethod
    def device(cls) -> torch.device:
        """Where the tests run; skips the test if there is no such device."""
        return device_of(cls.offer().spec.requires, cls.device_type)

    @classmethod
    def ops(cls, dtype: torch.dtype = torch.float32, options: Any = None) -> Mapping[str, Callable[..., Any]]:
        """The set, made as the worker makes it."""
        made: Mapping[str, Callable[..., Any]] = cls.target()(
            cls.device(), dtype, cls.checked_options() if options is None else options
        )
        return made

    @classmethod
    def arguments(cls, op: str, case: str, dtype: torch.dtype, seed: int = 0) -> tuple[Any, ...]:
        """The arguments of one case of ``OP_CASES``, made anew."""
        return OP_CASES[op][case](Draw.seeded(dtype, cls.device(), seed))

    @classmethod
    def run(cls, op: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> list[Tensor]:
        """The results of an op, and the arguments that it fills."""
        with torch.inference_mode():
            results = _tensors(function(*arguments))
        return [*results, *(arguments[place] for place in FILLS.get(op, ()))]

    @classmethod
    def compare(cls, op: str, got: Any, arguments: tuple[Any, ...]) -> None:
        """Fail unless what ``run`` gave is what the reference gives, as exact as its dtype allows.

        The truth is the reference in float32.
        """
        reference = Ops().request(OPS[op])
        expected = cls.run(op, reference, _copies(arguments))
        truth = cls.run(op, reference, _in_float32(arguments))
        results = _tensors(got)
        assert len(results) == len(expected), "as many results as the reference has"
        for index, (result, sample, exact) in enumerate(zip(results, expected, truth, strict=True)):
            where = f"result {index} of {op}"
            assert result.dtype == sample.dtype, where
            assert result.shape == sample.shape, where
            if not result.dtype.is_floating_point:
                assert torch.equal(result, sample), where
                continue
            result, sample, exact = _finite(result, sample, exact)
            floor = cls.tolerances[str(result.dtype).removeprefix("torch.")]
            limit = max(floor, cls.error_factor * worst_error(sample, exact))
            assert worst_error(result, exact) <= limit, where

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """What the spec lists and requires decides what is tested."""
        try:
            spec = self.offer().spec
            ops, requires = sorted(spec.ops & set(OP_CASES)), spec.requires
        except HooklineError:
            # Every test then says that there is no such offer.
            ops, requires = [], Requirements()
        if "case" in metafunc.fixturenames:
            metafunc.parametrize(("op", "case"), [(op, case) for op in ops for case in OP_CASES[op]])
        elif "op" in metafunc.fixturenames:
            metafunc.parametrize("op", ops)
        if "dtype" in metafunc.fixturenames:
            metafunc.parametrize("dtype", [getattr(torch, name) for name in allowed_dtypes(requires)], ids=str)

    # --- the set ---

    def test_the_set_has_the_ops_that_the_spec_lists(self, dtype: torch.dtype) -> None:
        listed = self.offer().spec.ops
        assert listed, "list the names of the ops in the spec"
        assert sorted(listed - set(OPS)) == [], f"not ops of core (known: {', '.join(sorted(OPS))})"
        assert sorted(self.ops(dtype)) == sorted(listed)

    def test_the_feature_deterministic_goes_with_a_target(self) -> None:
        spec = self.offer().spec
        assert ("deterministic" in spec.features) == bool(spec.deterministic_target)

    def test_options_are_read(self) -> None:
        """An option that nothing reads is a promise that is not kept."""
        options = self.checked_options()
        if options is None:
            pytest.skip("the plugin has no options")
        options, read = watched(options)
        dtype = self._dtype()
        ops = self.ops(dtype, options)
        for op in sorted(set(ops) & set(OP_CASES)):
            for case in OP_CASES[op]:
                with torch.inference_mode():
                    ops[op](*self.arguments(op, case, dtype))
        assert sorted(set(type(options).model_fields) - read - self.idle_options) == [], "nobody read these options"

    def test_composite_ops_may_be_made_of_the_set(self) -> None:
        """Core builds what a set leaves out from what it has."""
        dtype = self._dtype()
        ops = Ops([self.ops(dtype)])
        for name, op in OPS.items():
            arguments = self.arguments(name, "odd sizes", dtype)
            self.compare(name, self.run(name, ops.request(op), _copies(arguments)), arguments)

    # --- each op ---

    def test_an_op_gives_what_the_reference_gives(self, op: str, case: str, dtype: torch.dtype) -> None:
        arguments = self.arguments(op, case, dtype)
        self.compare(op, self.run(op, self.ops(dtype)[op], _copies(arguments)), arguments)

    def test_arguments_are_left_as_they_were(self, op: str) -> None:
        if op in MAY_WRITE:
            pytest.skip(f"{op} may write into its arguments")
        dtype = self._dtype()
        function = self.ops(dtype)[op]
        for case in OP_CASES[op]:
            arguments = self.arguments(op, case, dtype)
            before = _copies(arguments)
            with torch.inference_mode():
                function(*arguments)
            for argument, old in zip(_tensors(arguments), _tensors(before), strict=True):
                assert torch.equal(argument, old), case

    def test_a_result_outlives_the_next_call(self, op: str) -> None:
        """Results are kept: a residual is read a layer later."""
        dtype = self._dtype()
        function = self.ops(dtype)[op]
        for case in OP_CASES[op]:
            with torch.inference_mode():
                first = _tensors(function(*self.arguments(op, case, dtype, seed=1)))
                kept = [result.clone() for result in first]
                function(*self.arguments(op, case, dtype, seed=2))
            for result, old in zip(first, kept, strict=True):
                assert torch.equal(result, old), case

    def test_one_bad_token_spoils_no_other(self, op: str) -> None:
        """A request whose numbers overflow fails alone."""
        dtype = self._dtype()
        function = self.ops(dtype)[op]
        for case in OP_CASES[op]:
            arguments = self.arguments(op, case, dtype)
            if arguments[0].shape[0] < 2:
                continue
            with torch.inference_mode():
                clean = _tensors(function(*_copies(arguments)))
                arguments[0][1] = float("nan")
                spoiled = _tensors(function(*_copies(arguments)))
            others = [index for index in range(arguments[0].shape[0]) if index != 1]
            for result, expected in zip(spoiled, clean, strict=True):
                if result.shape[:1] != arguments[0].shape[:1]:
                    continue  # its rows are not those of the first argument
                if result.dtype.is_floating_point:
                    assert worst_error(*_finite(result[others], expected[others])) < 1e-2, case
                else:
                    assert torch.equal(result[others], expected[others]), case

    def test_deterministic_ops_do_not_depend_on_the_batch(self, op: str, dtype: torch.dtype) -> None:
        """Each row has the same bits alone, among few and among all, and they are those of the op."""
        function = self._deterministic_ops(dtype).get(op)
        if function is None:
            pytest.skip(f"the set has no {op} for deterministic engines")
        places = ROW_ARGUMENTS.get(op, ())
        is_other = function is not self.ops(dtype).get(op)
        if not places and not is_other:
            pytest.skip(f"{op} is the same one, and is not tried row by row")
        for case in OP_CASES[op]:
            arguments = self.arguments(op, case, dtype)
            whole = self.run(op, function, _copies(arguments))
            if is_other:
                self.compare(op, whole, arguments)
            num_rows = arguments[0].shape[0] if places else 0
            for start, count in ((0, 1), (num_rows - 1, 1), (num_rows // 2, 2)):
                if not 0 <= start < num_rows:
                    continue
                some = tuple(
                    value[start : start + count] if place in places else value for place, value in enumerate(arguments)
                )
                for result, expected in zip(self.run(op, function, _copies(some)), whole, strict=True):
                    assert torch.equal(result, expected[start : start + count]), f"{case}, rows from {start}"

    @pytest.mark.parametrize("renormalize", [True, False])
    def test_equal_experts_are_each_taken_once(self, renormalize: bool, dtype: torch.dtype) -> None:
        if "topk_softmax" not in self.offer().spec.ops:
            pytest.skip("the set has no topk_softmax")
        logits = torch.zeros(3, 6, dtype=dtype, device=self.device())
        with torch.inference_mode():
            weights, ids = self.ops(dtype)["topk_softmax"](logits, 4, renormalize)
        assert all(len(set(row)) == 4 and set(row) <= set(range(6)) for row in ids.tolist())
        torch.testing.assert_close(weights, torch.full_like(weights, 1 / 4 if renormalize else 1 / 6))

    @classmethod
    def _deterministic_ops(cls, dtype: torch.dtype) -> Mapping[str, Callable[..., Any]]:
        """What the set has for deterministic engines; maybe nothing."""
        target = cls.offer().spec.deterministic_target
        if not target:
            return {}
        module, _, attribute = target.partition(":")
        maker = getattr(importlib.import_module(module), attribute)
        made: Mapping[str, Callable[..., Any]] = maker(cls.device(), dtype, cls.checked_options())
        return made

    @classmethod
    def _dtype(cls) -> torch.dtype:
        dtype: torch.dtype = getattr(torch, allowed_dtypes(cls.offer().spec.requires)[0])
        return dtype


def _tensors(values: Any) -> list[Tensor]:
    """The tensors of a result or of arguments, in order."""
    return [
        value for value in (values if isinstance(values, (tuple, list)) else (values,)) if isinstance(value, Tensor)
    ]


def _finite(result: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
    """The tensors without the infinities of the last one, which ``result`` must have too."""
    *_, truth = others
    is_infinite = truth.isinf()
    assert torch.equal(result[is_infinite].float(), truth[is_infinite].float()), "infinite where the reference is"
    return tuple(tensor.masked_fill(is_infinite, 0.0) for tensor in (result, *others))


def _copies(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same with other memory, and the same strides between rows."""
    return tuple(_copy(value) if isinstance(value, Tensor) else value for value in arguments)


def _copy(tensor: Tensor) -> Tensor:
    if not tensor.numel() or tensor.is_contiguous():
        return tensor.clone()
    span = sum((extent - 1) * stride for extent, stride in zip(tensor.shape, tensor.stride(), strict=True)) + 1
    copy = tensor.new_zeros(span).as_strided(tensor.shape, tensor.stride())
    return copy.copy_(tensor)


def _in_float32(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(
        value.float() if isinstance(value, Tensor) and value.is_floating_point() else value for value in arguments
    )
