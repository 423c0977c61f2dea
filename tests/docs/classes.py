"""Classes: what an interface module says of its classes, as Markdown made of signatures and docstrings."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from abc import ABC
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeGuard

from tests.docs.markdown import on_one_line, prose, table


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """An annotated name of a class body."""

    name: str
    type: str
    #: The default as it is written, "" without one.
    default: str
    #: The ``#:`` comment above it.
    comment: str
    is_class_variable: bool


def attributes_of(cls: type[Any]) -> list[Attribute]:
    """The annotated names of a class's own body, in its order."""
    source = inspect.cleandoc("\n" + inspect.getsource(cls))
    lines = source.splitlines()
    (tree,) = ast.parse(source).body
    assert isinstance(tree, ast.ClassDef)
    found = []
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            annotation = ast.unparse(node.annotation)
            found.append(
                Attribute(
                    name=node.target.id,
                    type=re.sub(r"^ClassVar\[(.*)\]$", r"\1", annotation),
                    default=_default(node.value),
                    comment=_comment_above(lines, node.lineno - 1),
                    is_class_variable=annotation.startswith("ClassVar"),
                )
            )
    return found


def fields_table(cls: type[Any]) -> str:
    """A row for each field of a dataclass's own body."""
    rows = [
        [f"`{item.name}`", f"`{item.type}`", f"`{item.default}`" if item.default else "", prose(item.comment)]
        for item in attributes_of(cls)
        if not item.is_class_variable
    ]
    return table(["field", "type", "default", "meaning"], rows) if rows else ""


def described(cls: type[Any]) -> Iterator[str]:
    """Blocks: the docstring of a class, then its fields or its members."""
    yield prose(inspect.getdoc(cls) or "")
    if dataclasses.is_dataclass(cls):
        yield fields_table(cls)
    else:
        yield "\n".join(_members(cls))


def is_described(value: Any) -> TypeGuard[type[Any]]:
    """Whether a class says something of its own: values with fields, protocols, abstract classes."""
    if not isinstance(value, type):
        return False
    return dataclasses.is_dataclass(value) or issubclass(value, ABC) or getattr(value, "_is_protocol", False)


def names_in(cls: type[Any]) -> list[str]:
    """Words in the annotations of a class: names of other classes are among them."""
    texts = [item.type for item in attributes_of(cls)]
    texts += [_signature(name, member) for name, member in _own_members(cls)]
    if "__init__" in vars(cls) and not dataclasses.is_dataclass(cls):
        texts.append(_signature("__init__", vars(cls)["__init__"]))
    return [word for text in texts for word in re.findall(r"\w+", text)]


def imported_for_types(module: ModuleType, names: Iterable[str]) -> list[tuple[str, str]]:
    """Those names that a module takes from another one of core: (name, module)."""
    wanted = set(names)
    return [
        (alias.name, node.module)
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.module.startswith("hookline.")
        for alias in node.names
        if alias.name in wanted and not hasattr(module, alias.name)
    ]


def constructor(cls: type[Any]) -> str:
    """ "AttentionBackend(env: AttentionEnv)"."""
    function = next(vars(base)["__init__"] for base in cls.__mro__ if "__init__" in vars(base))
    if function is object.__init__:
        return f"{cls.__name__}()"
    return _signature(cls.__name__, function).removesuffix(" -> None")


def _members(cls: type[Any]) -> Iterator[str]:
    for item in attributes_of(cls):
        if item.comment:
            yield _entry(f"{item.name}: {item.type} = {item.default}", item.comment, "")
    for name, member in _own_members(cls):
        is_owed = getattr(member, "__isabstractmethod__", False) or not issubclass(cls, ABC)
        yield member_entry(name, member, "" if is_owed else "Optional. ")


def member_entry(name: str, member: Any, prefix: str = "") -> str:
    """An item of a list: the signature of a function or property, and its docstring."""
    function = member.fget if isinstance(member, property) else member
    return _entry(_signature(name, member), inspect.getdoc(function) or "", prefix)


def _entry(code: str, text: str, prefix: str) -> str:
    paragraphs = [on_one_line(part) for part in prose(text).split("\n\n") if part]
    first, rest = (paragraphs[0], paragraphs[1:]) if paragraphs else ("", [])
    return "\n".join([f"- `{code}`: {prefix}{first}".rstrip(": "), *(f"\n    {part}" for part in rest)])


def _own_members(cls: type[Any]) -> Iterator[tuple[str, Any]]:
    for name, member in vars(cls).items():
        if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, property)):
            yield name, member


def _signature(name: str, member: Any) -> str:
    """As it is written, without ``self`` and ``cls``."""
    if isinstance(member, property):
        assert member.fget is not None
        return f"{name}: {member.fget.__annotations__['return']}"
    node = ast.parse(inspect.cleandoc("\n" + inspect.getsource(member))).body[0]
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    node.args.args = [argument for argument in node.args.args if argument.arg not in ("self", "cls")]
    returns = f" -> {ast.unparse(node.returns)}" if node.returns is not None else ""
    kind = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
    return f"{kind}{name}({ast.unparse(node.args)}){returns}"


def _default(node: ast.expr | None) -> str:
    if node is None:
        return ""
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "field":
        factory = next((item.value for item in node.keywords if item.arg == "default_factory"), None)
        default = next((item.value for item in node.keywords if item.arg == "default"), None)
        if factory is not None:
            return {"dict": "{}", "list": "[]"}.get(ast.unparse(factory), ast.unparse(factory))
        return "" if default is None else ast.unparse(default)
    return ast.unparse(node)


def _comment_above(lines: list[str], index: int) -> str:
    found: list[str] = []
    for line in reversed(lines[:index]):
        if not line.strip().startswith("#:"):
            break
        found.insert(0, line.strip().removeprefix("#:").strip())
    return " ".join(found)
