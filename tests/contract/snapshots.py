"""Snapshots of what plugins are written against, one text file a family, in tests/contract/snapshots.

``python -m tests.contract.snapshots`` writes them again after a change; the diff is what a reviewer judges.
``python -m tests.contract.snapshots --release`` copies them to tests/contract/released, which is what later
changes are measured against: from then on a change that breaks plugins needs another api_version.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from hookline.plugins.contract import CONTRACT_VERSION, OLDEST_CONTRACT_VERSION
from hookline.plugins.kinds import SPEC_TYPES, hook_of
from hookline.plugins.matrix import stability_of
from tests.contract.surface import suites_of, surface_of

FOLDER = Path(__file__).parent / "snapshots"
RELEASED = Path(__file__).parent / "released"
COMMAND = "python -m tests.contract.snapshots"


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Kinds that are written against the same modules."""

    kinds: tuple[str, ...]
    #: "package.module", or "package.module:name" for one thing in it.
    modules: tuple[str, ...]


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "api": Family(
            kinds=("api_families",),
            modules=(
                "hookline.interfaces.api",
                "hookline.api.bodies",
                "hookline.api.choice",
                "hookline.api.errors:ErrorAnswer",
                "hookline.api.errors:describe",
                "hookline.api.ndjson",
                "hookline.api.sse",
                "hookline.api.streams",
                "hookline.api.tasks",
                "hookline.api.auth:require_admin",
                "hookline.formats.schemas",
                "hookline.messages.outputs",
                "hookline.messages.requests",
                "hookline.sampling_params",
            ),
        ),
        "attention": Family(
            kinds=("attention_backends",),
            modules=("hookline.interfaces.attention", "hookline.batch.forward_batch", "hookline.batch.forward_mode"),
        ),
        "checkpoints": Family(kinds=("checkpoint_sources",), modules=("hookline.interfaces.checkpoints",)),
        "grammar": Family(
            kinds=("grammar_backends",),
            modules=("hookline.interfaces.grammar", "hookline.text.tokenizer", "hookline.text.regex_size"),
        ),
        "logits": Family(kinds=("logits_processors",), modules=("hookline.interfaces.logits",)),
        "lora": Family(kinds=("lora_backends",), modules=("hookline.interfaces.lora", "hookline.layers.linear")),
        "media": Family(kinds=("media_loaders",), modules=("hookline.interfaces.multimodal",)),
        "models": Family(
            kinds=("models",),
            modules=(
                "hookline.interfaces.model",
                "hookline.interfaces.multimodal",
                "hookline.layers.model",
                "hookline.layers.build",
                "hookline.layers.activation",
                "hookline.layers.attention",
                "hookline.layers.embedding",
                "hookline.layers.linear",
                "hookline.layers.logits",
                "hookline.layers.moe",
                "hookline.layers.norm",
                "hookline.layers.packed_attention",
                "hookline.layers.parameters",
                "hookline.layers.rotary",
                "hookline.layers.rotary_heads",
                "hookline.batch.forward_batch",
                "hookline.config.model_config",
                "hookline.config.rope_config",
            ),
        ),
        "ops": Family(
            kinds=("ops",),
            modules=(
                "hookline.interfaces.kernels",
                "hookline.layers.ops",
                "hookline.layers.sampling",
                "hookline.layers.batch_invariant",
            ),
        ),
        "parsers": Family(
            kinds=("reasoning_parsers", "function_call_parsers"),
            modules=(
                "hookline.interfaces.parsers",
                "hookline.formats.description",
                "hookline.formats.parsers",
                "hookline.formats.answer",
                "hookline.formats.markers",
                "hookline.formats.tape",
                "hookline.formats.wire",
                "hookline.formats.values",
                "hookline.text.json_stream",
            ),
        ),
        "poolers": Family(kinds=("poolers",), modules=("hookline.interfaces.pooling",)),
        "scheduling": Family(kinds=("schedulers", "schedule_policies"), modules=("hookline.interfaces.scheduling",)),
        # What all of them share: its version is that of the contract as a whole.
        "shared": Family(
            kinds=(),
            modules=(
                "hookline.interfaces.spec",
                "hookline.interfaces.prebuild",
                "hookline.plugins.hookspecs",
                "hookline.errors",
            ),
        ),
    }
)
#: A file of its own: authors subclass the suites, but no engine depends on them.
TESTKIT = "testkit"


def snapshots() -> dict[str, str]:
    """File stem -> the text that the sources give now."""
    texts = {name: _text(_header(family), family.modules) for name, family in FAMILIES.items()}
    return {**texts, TESTKIT: _testkit_text()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """What the header of a snapshot says of a family."""

    is_stable: bool
    current: int
    oldest: int


def versions_in(text: str) -> dict[str, Version]:
    """kind -> its versions."""
    found = re.findall(r"^# (\w+): (\w+), .*?api_version (\d+), oldest served (\d+)$", text, re.MULTILINE)
    return {
        kind: Version(is_stable=tier == "stable", current=int(current), oldest=int(oldest))
        for kind, tier, current, oldest in found
    }


def undecided(old: str, new: str, accepted: Mapping[str, str] = MappingProxyType({})) -> list[str]:
    """What is left to decide on the way from a released snapshot to the present one.

    ``accepted`` are breaks that break nobody -> why.
    """
    broken = [line for line in breaks(old, new) if line not in accepted]
    before, after = versions_in(old), versions_in(new)
    raised = [kind for kind in before if kind in after and after[kind].current > before[kind].current]
    if broken and before and not raised:
        return [*broken, f"raise current_api_version of {' or '.join(before)}"]
    return [
        f"{kind} is stable: version {before[kind].current} must be served for one more minor release, with an entry in "
        "hookline.deprecations"
        for kind in raised
        if before[kind].is_stable and after[kind].oldest > before[kind].current
    ]


def breaks(old: str, new: str) -> list[str]:
    """What plugins written against ``old`` may trip over in ``new``.

    A line that is gone or different, a method that plugins must now define, a field that they must now give.
    """
    before, after = _lines(old), _lines(new)
    classes = {line.split("(")[0].removeprefix("class ") for line in before if line.startswith("class ")}
    gone = [f"gone or changed: {line}" for line in before if line not in after]
    added = [line for line in after if line not in before]
    return gone + [f"now required: {line}" for line in added if line.split(".")[0] in classes and _is_demand(line)]


def _is_demand(line: str) -> bool:
    if line.endswith("]"):
        return "abstract" in line.rpartition("[")[2]
    _, _, member = line.partition(".")
    name = member.split(":")[0]
    return name.isidentifier() and ":" in member and " = " not in member and "ClassVar" not in member


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def _header(family: Family) -> list[str]:
    if not family.kinds:
        versions = f"api_version {CONTRACT_VERSION}, oldest served {OLDEST_CONTRACT_VERSION}"
        return [f"# PluginInfo: stable, {versions}"]
    return [
        f"# {kind}: {stability_of(kind)}, {hook_of(kind)}, api_version {SPEC_TYPES[kind].current_api_version}, "
        f"oldest served {SPEC_TYPES[kind].oldest_api_version}"
        for kind in family.kinds
    ]


def _text(header: list[str], modules: tuple[str, ...]) -> str:
    blocks = [header]
    for place in modules:
        module, _, name = place.partition(":")
        blocks.append([f"## {module}", *surface_of(module, (name,) if name else ())])
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def _testkit_text() -> str:
    blocks = ["# provisional; authors raise the lower bound of hookline-core when they use something new"]
    blocks += ["\n".join([f"## {module}", *lines]) for module, lines in _suites()]
    return "\n\n".join(blocks) + "\n"


def _suites() -> Iterator[tuple[str, list[str]]]:
    folder = Path(__file__).parents[2] / "core" / "hookline" / "testkit"
    for file in sorted(folder.glob("*.py")):
        if lines := suites_of(f"hookline.testkit.{file.stem}"):
            yield f"hookline.testkit.{file.stem}", lines


def main(arguments: list[str]) -> None:
    """Write the snapshots, or with ``--release`` copy them to where a release keeps them."""
    folder = RELEASED if arguments == ["--release"] else FOLDER
    folder.mkdir(exist_ok=True)
    for name, text in snapshots().items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
