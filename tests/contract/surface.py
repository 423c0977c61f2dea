"""The public surface of a module as text: one line for each class, field, method and function, in source order.

Read from the source, so that it is the same under every version of Python and needs no import. Every line can be
understood alone, which is what makes two surfaces comparable::

    class Pooler(ABC)
    Pooler.result(self) -> torch.Tensor  [abstract]
    PoolerSpec.needs_all_tokens: bool = False
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

_CORE = Path(__file__).parents[2] / "core"
_MARKS = {
    "abstractmethod": "abstract",
    "property": "property",
    "cached_property": "property",
    "classmethod": "classmethod",
    "staticmethod": "staticmethod",
}
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def surface_of(module: str, names: Sequence[str] = ()) -> list[str]:
    """The lines of a module, or of some of its classes and functions."""
    file = _CORE.joinpath(*module.split(".")).with_suffix(".py")
    return surface_of_source(file.read_text(encoding="utf-8"), names)


def surface_of_source(source: str, names: Sequence[str] = ()) -> list[str]:
    """The same of a module's text."""
    found = [
        (name, line)
        for node in ast.parse(source).body
        for name, line in _of_statement(node)
        if _is_public(name) and (not names or name in names)
    ]
    missing = set(names) - {name for name, _ in found}
    assert not missing, f"there is no {missing}"
    return [line for _, line in found]


def suites_of(module: str) -> list[str]:
    """Of a module of the testkit: what authors may set or override in its suites, but not the tests themselves."""
    lines = surface_of(module)
    suites = [line.split("(")[0].removeprefix("class ") for line in lines if line.startswith("class ")]
    suites = [name for name in suites if name.endswith("Suite")]
    own = [line for line in lines if any(line.startswith((f"class {name}(", f"{name}.")) for name in suites)]
    return [line for line in own if not line.partition(".")[2].startswith(("test_", "confirms"))]


def _of_statement(node: ast.stmt) -> Iterator[tuple[str, str]]:
    """(public name, line) of what a module defines."""
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(ast.unparse(base) for base in node.bases)
        yield node.name, f"class {node.name}({bases})" if bases else f"class {node.name}"
        for member in node.body:
            yield from ((node.name, line) for line in _of_member(node.name, member))
    elif isinstance(node, _Function):
        yield node.name, f"{'async ' * isinstance(node, ast.AsyncFunctionDef)}def {node.name}{_signature(node)}"
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        # The values of tables are no signature.
        yield node.target.id, f"{node.target.id}: {ast.unparse(node.annotation)}"


def _of_member(owner: str, node: ast.stmt) -> Iterator[str]:
    if isinstance(node, _Function):
        if node.name == "__init__":
            yield f"{owner}{_signature(node)}"
            yield from (f"{owner}.{name}  [attribute]" for name in _attributes(node))
        elif _is_public(node.name):
            decorators = [ast.unparse(decorator).rpartition(".")[2] for decorator in node.decorator_list]
            marks = [_MARKS[name] for name in decorators if name in _MARKS]
            suffix = f"  [{' '.join(sorted(marks))}]" if marks else ""
            yield f"{'async ' * isinstance(node, ast.AsyncFunctionDef)}{owner}.{node.name}{_signature(node)}{suffix}"
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and _is_public(node.target.id):
        yield from _of_field(owner, node.target.id, ast.unparse(node.annotation), node.value)
    elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and _is_public(node.targets[0].id):
        yield f"{owner}.{node.targets[0].id} = {ast.unparse(node.value)}"


def _of_field(owner: str, name: str, annotation: str, value: ast.expr | None) -> Iterator[str]:
    if isinstance(value, ast.Call) and value.args and isinstance(value.args[0], ast.Dict):
        # A table: its keys are the contract, a line each; what it says of them is prose.
        yield from (f"{owner}.{name}[{ast.unparse(key)}]" for key in value.args[0].keys if key is not None)
        return
    yield f"{owner}.{name}: {annotation}" + (f" = {ast.unparse(value)}" if value is not None else "")


def _signature(node: _Function) -> str:
    answer = f" -> {ast.unparse(node.returns)}" if node.returns is not None and node.name != "__init__" else ""
    return f"({ast.unparse(node.args)}){answer}"


def _attributes(node: _Function) -> list[str]:
    """Public attributes that a constructor sets."""
    targets = []
    for statement in ast.walk(node):
        if isinstance(statement, ast.Assign):
            targets += statement.targets
        elif isinstance(statement, ast.AnnAssign):
            targets.append(statement.target)
    names = [
        target.attr
        for target in targets
        if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == "self"
    ]
    return [name for name in dict.fromkeys(names) if _is_public(name)]


def _is_public(name: str) -> bool:
    return not name.startswith("_")
