"""LoadPlan: which checkpoint tensor fills which place of which parameter, checked before anything is read."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from hookline.errors import ModelError
from hookline.layers.model import Model
from hookline.layers.parameters import ExpertLayout, Parameter, Piece
from hookline.worker.checkpoint import Checkpoint, TensorHeader

logger = logging.getLogger(__name__)

LayoutOption = Literal["auto", "published", "transformers"]

#: Names at the end of a quantised checkpoint's scales.
_SCALE_SUFFIXES = ("weight_scale", "weight_scale_inv", "input_scale", "activation_scale", "weight_packed", "qweight")
_LOADABLE_DTYPES = frozenset({"F64", "F32", "BF16", "F16"})
_MAX_NAMES_SHOWN = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """Fill one place of a parameter from one checkpoint tensor."""

    source: str
    parameter: Parameter
    piece: Piece


def plan_load(model: Model, checkpoint: Checkpoint, expert_layout: LayoutOption = "auto") -> list[Copy]:
    """The copies that fill every parameter exactly once.

    Raises one ``ModelError`` that lists every missing, unexpected, misshapen and quantised tensor.
    """
    known: dict[str, TensorHeader] = {}
    skipped = 0
    for name, header in checkpoint.tensors.items():
        mapped = model.map_weight(name)
        if mapped is None:
            skipped += 1
        elif mapped in known:
            raise ModelError(
                f"tensors '{known[mapped].name}' and '{name}' of '{checkpoint.path}' are the same weight, '{mapped}'"
            )
        else:
            known[mapped] = header
    if skipped:
        logger.info("%d tensors of %s are not used by %s", skipped, checkpoint.path, type(model).__name__)

    problems = _Problems(checkpoint)
    problems.find_quantised(known)
    layout = _Layout(model, known, expert_layout)
    copies: list[Copy] = []
    for parameter in model.parameters.values():
        for piece in _choose_form(parameter, known, layout):
            found = known.get(piece.name)
            if found is None:
                problems.missing.append(piece.name)
            elif found.shape != piece.shape:
                problems.misshapen.append(f"{found.name} is {_shape(found.shape)}, not {_shape(piece.shape)}")
            else:
                copies.append(Copy(source=found.name, parameter=parameter, piece=piece))
    expected = {piece.name for parameter in model.parameters.values() for form in parameter.forms for piece in form}
    problems.unexpected += [header.name for name, header in known.items() if name not in expected]
    problems.raise_if_any()
    return copies


def _choose_form(parameter: Parameter, known: Mapping[str, TensorHeader], layout: _Layout) -> tuple[Piece, ...]:
    """The form that the checkpoint uses, or the one it comes closest to, for the sake of the messages."""
    forms = [form for form in parameter.forms if any(piece.name in known for piece in form)]
    if not forms:
        return parameter.forms[0]
    fitting = [form for form in forms if all(_fits(piece, known) for piece in form)]
    if len(fitting) > 1:
        return layout.choose(parameter, fitting)
    return (fitting or forms)[0]


def _fits(piece: Piece, known: Mapping[str, TensorHeader]) -> bool:
    header = known.get(piece.name)
    return header is not None and header.shape == piece.shape


class _Layout:
    """Settles the layout of expert tensors whose shape does not tell, because both dimensions are equal."""

    def __init__(self, model: Model, known: Mapping[str, TensorHeader], option: LayoutOption) -> None:
        self._option = option
        self._seen: set[ExpertLayout] = set()
        for parameter in model.parameters.values():
            stacked = [form[0] for form in parameter.forms if len(form) == 1 and len(parameter.forms) > 1]
            fitting = [piece for piece in stacked if _fits(piece, known)]
            if len(fitting) == 1:
                self._seen.add(ExpertLayout.PUBLISHED if fitting[0].transposed else ExpertLayout.TRANSFORMERS)
        self._is_logged = False

    def choose(self, parameter: Parameter, fitting: list[tuple[Piece, ...]]) -> tuple[Piece, ...]:
        if self._option != "auto":
            layout, reason = ExpertLayout(self._option), "model.moe_expert_layout says so"
        elif len(self._seen) == 1:
            (layout,) = self._seen
            reason = "the other expert tensors have it"
        else:
            raise ModelError(
                f"the shape of '{parameter.name}' does not tell its layout, both dimensions are equal; set "
                f"model.moe_expert_layout to 'published' ([E, in, out]) or 'transformers' ([E, out, in])"
            )
        if not self._is_logged:
            self._is_logged = True
            logger.warning("expert tensors with equal dimensions are read in the %s layout: %s", layout.value, reason)
        return next(form for form in fitting if form[0].transposed == (layout is ExpertLayout.PUBLISHED))


class _Problems:
    """Everything wrong with a checkpoint, said at once."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self.missing: list[str] = []
        self.unexpected: list[str] = []
        self.misshapen: list[str] = []
        self.quantised: list[str] = []

    def find_quantised(self, known: Mapping[str, TensorHeader]) -> None:
        self.quantised = [
            header.name
            for name, header in known.items()
            if name.endswith(_SCALE_SUFFIXES) or header.dtype not in _LOADABLE_DTYPES
        ]

    def raise_if_any(self) -> None:
        path = self._checkpoint.path
        if self.quantised:
            raise ModelError(
                f"'{path}' is quantised ({_names(self.quantised)}), which is not supported; use the checkpoint in "
                "bfloat16, float16 or float32"
            )
        found = {"missing": self.missing, "unexpected": self.unexpected, "of another shape": self.misshapen}
        lines = [f"  {len(names)} {kind}: {_names(names)}" for kind, names in found.items() if names]
        if lines:
            raise ModelError(
                f"the tensors of '{path}' do not fit the model that its config.json describes:\n" + "\n".join(lines)
            )


def _names(names: list[str]) -> str:
    shown = ", ".join(sorted(names)[:_MAX_NAMES_SHOWN])
    more = len(names) - _MAX_NAMES_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def _shape(shape: tuple[int, ...]) -> str:
    return "[" + ", ".join(map(str, shape)) + "]"
