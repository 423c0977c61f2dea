"""Who imports whom. The picture is in docs/architecture.md; this proves it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = ROOT / "core" / "hookline"
PLUGINS = sorted((ROOT / "plugins").glob("*/hookline_*"))

#: What every part of core may import.
COMMON = {
    "_version",
    "config",
    "deprecations",
    "errors",
    "formats",
    "interfaces",
    "kernel_cache",
    "machine",
    "observability",
    "platform",
    "plugins",
    "sampling_params",
    "text",
}
#: Parts in the order of a request's way, and what each may import besides.
LAYERS: dict[str, set[str]] = {
    "api": {"frontend", "messages"},
    "frontend": {"media", "messages"},
    "media": {"messages"},
    "messages": set(),
    "scheduler": {"messages", "worker", "layers", "batch", "cache"},
    "worker": {"layers", "batch", "cache"},
    "layers": {"batch", "cache"},
    "batch": set(),
    "cache": set(),
}
#: The common parts themselves may not reach up.
COMMON_MAY: dict[str, set[str]] = {
    "errors": set(),
    "_version": set(),
    "deprecations": {"_version", "errors"},
    "sampling_params": {"errors"},
    "kernel_cache": set(),
    "machine": set(),
    "platform": {"errors", "machine"},
    "text": {"errors", "sampling_params"},
    "interfaces": {"errors", "sampling_params"},
    "formats": {"errors", "interfaces", "text"},
    "config": {"errors", "interfaces", "plugins", "sampling_params"},
    "plugins": {"_version", "deprecations", "errors", "interfaces", "config"},
    "observability": {"errors", "messages"},
}
#: What puts the parts together may import all of them.
COMPOSITION = {
    "__init__", "__main__", "bench", "cli", "commands", "engine", "engine_core", "engine_mail", "engine_media",
    "launch", "outputs", "prebuild", "processes", "progress", "scaffold", "testkit",
}  # fmt: skip
#: What a plugin may import of core; hookline.api only to serve HTTP.
FOR_PLUGINS = {
    "api", "batch", "errors", "formats", "interfaces", "layers", "messages", "plugins", "sampling_params", "testkit",
    "text",
}  # fmt: skip


@dataclass(frozen=True)
class Import:
    """A module that a file imports when it runs, not only for types."""

    file: Path
    line: int
    module: str

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line} imports {self.module}"


def imports_of(file: Path) -> Iterator[Import]:
    """All imports of a file, those inside functions too, but none under ``if TYPE_CHECKING``."""
    tree = ast.parse(file.read_text())
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING"
        for statement in block.body
        for node in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(file, node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            if node.module == "hookline":
                yield from (Import(file, node.lineno, f"hookline.{alias.name}") for alias in node.names)
            elif node.module is not None:
                yield Import(file, node.lineno, node.module)


def part_of(module: str) -> str | None:
    """ "scheduler" for "hookline.scheduler.req", ``None`` for what is not core."""
    head, _, rest = module.partition(".")
    return rest.partition(".")[0] if head == "hookline" and rest else None


def parts() -> list[str]:
    return sorted(path.stem for path in CORE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file())


def test_every_part_of_core_has_its_place() -> None:
    assert set(parts()) <= set(LAYERS) | COMMON | COMPOSITION


@pytest.mark.parametrize("part", [*LAYERS, *COMMON_MAY])
def test_core_imports_run_downwards(part: str) -> None:
    allowed = {part} | (LAYERS[part] | COMMON if part in LAYERS else COMMON_MAY[part])
    files = [CORE / f"{part}.py"] if (CORE / f"{part}.py").is_file() else sorted((CORE / part).rglob("*.py"))
    wrong = [
        str(found)
        for file in files
        for found in imports_of(file)
        if (target := part_of(found.module)) is not None and target not in allowed
    ]
    assert wrong == []


def test_core_never_imports_a_plugin() -> None:
    wrong = [
        str(found) for file in CORE.rglob("*.py") for found in imports_of(file) if found.module.startswith("hookline_")
    ]
    assert wrong == []


@pytest.mark.parametrize("package", PLUGINS, ids=lambda path: path.name)
def test_plugins_meet_in_core_only(package: Path) -> None:
    public = {"Engine", "SamplingParams", "hookimpl", "__version__"}
    wrong = []
    for file in package.rglob("*.py"):
        for found in imports_of(file):
            top = found.module.partition(".")[0]
            target = part_of(found.module)
            is_other_plugin = top.startswith("hookline_") and top != package.name
            is_private = target is not None and target not in FOR_PLUGINS | public
            if is_other_plugin or is_private:
                wrong.append(str(found))
    assert wrong == []


def test_nothing_in_core_depends_on_a_plugins_name() -> None:
    """Names of shipped offers may occur as defaults of settings and in hints, not in decisions."""
    from hookline.plugins.manager import load_plugins

    registry = load_plugins(source_tree=[ROOT / "plugins"], strict=False)
    names = {offer.spec.name for plugin in registry.plugins for offer in plugin.offers}
    # Words that mean something else as well.
    names -= {"default", "torch", "native", "random", "priority", "last", "cls", "mean", "demo", "openai", "llama3"}
    wrong = []
    for file in CORE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Compare):
                continue
            for side in (node.left, *node.comparators):
                for constant in ast.walk(side):
                    if isinstance(constant, ast.Constant) and constant.value in names:
                        wrong.append(f"{file.relative_to(ROOT)}:{node.lineno} compares with '{constant.value}'")
    assert wrong == []


def test_torch_cuda_appears_in_platform_only() -> None:
    """And in the testkit, which watches from outside what is done to a device."""
    wrong = []
    for file in CORE.rglob("*.py"):
        if file == CORE / "platform.py" or file.is_relative_to(CORE / "testkit"):
            continue
        tree = ast.parse(file.read_text())
        used = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Attribute) and _is_torch_cuda(node)]
        imported = [found.line for found in imports_of(file) if found.module.startswith("torch.cuda")]
        named = [
            node.lineno
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module == "torch"
            if any(alias.name == "cuda" for alias in node.names)
        ]
        wrong += [f"{file.relative_to(ROOT)}:{line}" for line in (*used, *imported, *named)]
    assert wrong == []


def _is_torch_cuda(node: ast.Attribute) -> bool:
    return node.attr == "cuda" and isinstance(node.value, ast.Name) and node.value.id == "torch"


def test_environment_variables_are_read_in_few_places() -> None:
    """A variable that changes behaviour is a setting; these read what must be known before settings are."""
    allowed = {
        "config/device.py",  # CUDA_VISIBLE_DEVICES, whose meaning is CUDA's
        "config/secrets.py",  # env:NAME
        "config/sources.py",  # HOOKLINE__SECTION__NAME
        "kernel_cache.py",  # TRITON_CACHE_DIR, which Triton reads, set by a setting of ours
        "plugins/context.py",  # CUDA_HOME and CUDA_PATH, whose meaning is CUDA's
        "plugins/manager.py",  # HOOKLINE_SOURCE_TREE
        "processes/child_process.py",  # passed on to children
        "media/decoders.py",  # likewise
        "scheduler/grammar_makers.py",  # likewise
        "testkit/offer_suite.py",  # likewise
        "worker/__init__.py",  # OMP_WAIT_POLICY, which the OpenMP runtime reads when torch loads
    }
    found = set()
    for file in CORE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if (isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")) or (
                isinstance(node, ast.ImportFrom)
                and node.module == "os"
                and any(alias.name in ("environ", "getenv") for alias in node.names)
            ):
                found.add(str(file.relative_to(CORE)))
    assert found <= allowed
