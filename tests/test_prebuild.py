"""Prebuilding: what plugins name is built once and side by side, then an engine runs every kind of pass."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from hookline.config.engine_plan import EnginePlan
from hookline.config.sources import load_config
from hookline.errors import PluginError
from hookline.interfaces.prebuild import KernelBuild, PrebuildEnv
from hookline.prebuild import build_named, warm_up
from hookline.testkit.plans import chosen, make_plan
from tests.factories.checkpoints import make_checkpoint
from tests.factories.demo_server import hookline

#: Names of what was built, in any order.
BUILT: list[str] = []
#: Passed by builds that run at the same time.
TOGETHER = threading.Barrier(2, timeout=20)


def _build(name: str) -> KernelBuild:
    def build() -> None:
        TOGETHER.wait()
        BUILT.append(name)

    return KernelBuild(name=name, is_cached=name in BUILT, build=build)


def two_builds(env: PrebuildEnv) -> list[KernelBuild]:
    assert (env.model.head_dim, env.page_size, env.kernel_cache_dir) == (16, 16, None)
    assert (env.device.type, str(env.dtype)) == ("cpu", "torch.float32")
    return [_build("first"), _build("second")]


def broken_builds(env: PrebuildEnv) -> list[KernelBuild]:
    def fail() -> None:
        raise RuntimeError("nvcc -c -I " * 100 + "\nkernel.cu: first\n" * 20 + "error: expected ';' before '}'")

    def succeed() -> None:
        BUILT.append("sound")

    return [
        KernelBuild(name="broken", is_cached=False, build=fail),
        KernelBuild(name="sound", is_cached=False, build=succeed),
    ]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("prebuild") / "qwen3")


@pytest.fixture(autouse=True)
def nothing_built() -> None:
    BUILT.clear()


def plan(checkpoint: Path, prebuild: str) -> EnginePlan:
    offers = [
        chosen("attention_backends", "quick", f"{__name__}:two_builds", prebuild=f"{__name__}:{prebuild}"),
        # Most offers name nothing.
        chosen("ops", "plain", f"{__name__}:two_builds"),
    ]
    config: dict[str, dict[str, Any]] = {
        "model": {"dtype": "float32"},
        "execution": {"device": "cpu"},
        "cache": {"page_size": 16},
    }
    return make_plan(checkpoint, config=config, plugins=offers)


def test_what_is_named_is_built_side_by_side_and_once(checkpoint: Path) -> None:
    """One after the other, the first would wait in vain for the second."""
    rows = list(build_named(plan(checkpoint, "two_builds")))
    assert [(row.what, row.result) for row in rows] == [("quick: first", "built"), ("quick: second", "built")]
    assert sorted(BUILT) == ["first", "second"]
    assert all(row.seconds > 0 for row in rows)
    again = list(build_named(plan(checkpoint, "two_builds")))
    assert [(row.what, row.result, row.seconds) for row in again] == [
        ("quick: first", "cached", 0.0),
        ("quick: second", "cached", 0.0),
    ]


def test_a_build_that_fails_is_named_when_the_others_are_done(checkpoint: Path) -> None:
    with pytest.raises(PluginError, match=r"^attention_backends 'quick' of tests: broken does not build: ") as info:
        list(build_named(plan(checkpoint, "broken_builds")))
    assert str(info.value).endswith("error: expected ';' before '}'")
    assert len(str(info.value)) < 1000
    assert BUILT == ["sound"]


def test_a_function_that_is_not_there_is_named(checkpoint: Path) -> None:
    with pytest.raises(PluginError, match=r"'quick' of tests  does not load from 'tests.test_prebuild:nothing'"):
        list(build_named(plan(checkpoint, "nothing")))


def test_a_warm_up_reads_no_weights_and_tells_what_it_built(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kernels that appear in the cache meanwhile were built."""
    bare = tmp_path / "model"
    bare.mkdir()
    (bare / "config.json").write_bytes((checkpoint / "config.json").read_bytes())
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "triton"))
    settings = {"device": "cpu", "kernel_cache_dir": str(tmp_path), "max_model_len": 128, "kv_cache_tokens": 256}
    rows = []
    for number, row in enumerate(warm_up(load_config(keywords={"model": str(bare), **settings}))):
        rows.append((row.what, row.result))
        # Compiled by the stage that runs next.
        for variant in range(number):
            folder = tmp_path / "triton" / f"{number}{variant}"
            folder.mkdir(parents=True)
            (folder / f"kernel_{number}.json").write_text("{}")
    assert rows == [
        ("an engine's start", "cached"),
        ("prefills and decodes", "cached"),
        ("new tokens after a prefix", "kernel_1 built"),
        ("sampling", "kernel_2 x2 built"),
    ]


def test_the_command_prints_a_table_and_json(checkpoint: Path) -> None:
    arguments = ("kernels", "prebuild", str(checkpoint), "--device", "cpu", "--max-model-len", "64")
    done = hookline(*arguments)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["what", "an", "prefills", "new", "sampling"]
    done = hookline(*arguments, "--no-warm-up", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["prebuilt"] == []
