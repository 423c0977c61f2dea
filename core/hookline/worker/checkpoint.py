"""Checkpoint: the safetensors files of a directory and what their headers say."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from hookline.errors import ModelError

INDEX_NAME = "model.safetensors.index.json"
SINGLE_NAME = "model.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorHeader:
    """One tensor of a checkpoint, not yet read."""

    name: str
    shape: tuple[int, ...]
    #: As safetensors writes it: "F32", "BF16", "F8_E4M3".
    dtype: str
    file: Path

    @property
    def num_elements(self) -> int:
        return math.prod(self.shape)


class Checkpoint:
    """Tensors by name over one or several files."""

    def __init__(self, path: Path, tensors: Mapping[str, TensorHeader]) -> None:
        self.path = path
        self.tensors = tensors

    @staticmethod
    def open(path: Path) -> Checkpoint:
        """Read all headers. Raises ``ModelError`` for missing, incomplete and corrupt files."""
        index = path / INDEX_NAME
        if index.is_file():
            return Checkpoint(path, _from_index(path, index))
        # Some repositories add a consolidated copy of the same weights beside the usual single file.
        single = path / SINGLE_NAME
        files = [single] if single.is_file() else sorted(path.glob("*.safetensors"))
        if not files:
            others = sorted(file.name for pattern in ("*.bin", "*.pt", "*.gguf") for file in path.glob(pattern))
            found = f" (found {', '.join(others[:3])}: convert them to safetensors)" if others else ""
            raise ModelError(f"no *.safetensors in '{path}'{found}")
        tensors: dict[str, TensorHeader] = {}
        for file in files:
            for header in _headers(file):
                if header.name in tensors:
                    raise ModelError(
                        f"tensor '{header.name}' is in both '{tensors[header.name].file.name}' and '{file.name}' "
                        f"of '{path}', which has no {INDEX_NAME} to say which one counts"
                    )
                tensors[header.name] = header
        return Checkpoint(path, tensors)

    def parts(self, names: Sequence[str], count: int) -> list[list[str]]:
        """The names in groups to be read by themselves, about ``count`` of about equal size; a group lies in one
        file, in the order in which it was named."""
        by_file: dict[Path, list[str]] = {}
        for name in names:
            by_file.setdefault(self.tensors[name].file, []).append(name)
        limit = sum(self.tensors[name].num_elements for name in names) / count
        groups: list[list[str]] = []
        for wanted in by_file.values():
            size = limit
            for name in wanted:
                if size >= limit:
                    groups.append([])
                    size = 0
                groups[-1].append(name)
                size += self.tensors[name].num_elements
        return groups

    def read(self, names: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
        """The named tensors on the host, file by file; each is memory-mapped and lives until dropped."""
        by_file: dict[Path, list[str]] = {}
        for name in names:
            by_file.setdefault(self.tensors[name].file, []).append(name)
        for file, wanted in by_file.items():
            try:
                with safe_open(file, framework="pt") as reader:
                    for name in wanted:
                        yield name, reader.get_tensor(name)
            except (SafetensorError, OSError) as exc:
                raise ModelError(f"cannot read '{file}': {exc}") from exc


def _from_index(path: Path, index: Path) -> dict[str, TensorHeader]:
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        file_of = {str(name): str(file) for name, file in weight_map.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise ModelError(f"cannot read '{index}': {type(exc).__name__}: {exc}") from exc
    absent = sorted({file for file in file_of.values() if not (path / file).is_file()})
    if absent:
        raise ModelError(
            f"'{index}' lists files that are not there: {', '.join(absent)}; the download may be incomplete"
        )
    found = {
        (header.file.name, header.name): header
        for file in sorted(set(file_of.values()))
        for header in _headers(path / file)
    }
    lost = [name for name, file in file_of.items() if (file, name) not in found]
    if lost:
        raise ModelError(f"'{index}' lists tensors that are not in their files: {', '.join(sorted(lost)[:10])}")
    return {name: found[file, name] for name, file in file_of.items()}


def _headers(file: Path) -> list[TensorHeader]:
    try:
        with safe_open(file, framework="pt") as reader:
            headers = []
            for name in reader.keys():  # noqa: SIM118 - not a dict
                part = reader.get_slice(name)
                headers.append(
                    TensorHeader(name=name, shape=tuple(part.get_shape()), dtype=part.get_dtype(), file=file)
                )
            return headers
    except (SafetensorError, OSError) as exc:
        raise ModelError(
            f"'{file}' is not a valid safetensors file ({exc}); it may be incomplete, fetch it again"
        ) from exc
