"""PluginBench: fake plugins in a folder of their own, and engines resolved with them alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hookline.config.device import DeviceFacts
from hookline.config.engine_plan import EnginePlan
from hookline.config.resolve import resolve_engine
from hookline.config.sources import load_config
from hookline.plugins.manager import load_plugins
from tests.factories.distributions import hook, install, only, write_checkpoint

CPU = DeviceFacts(has_cuda=False, reason="a test")

#: The least that an engine needs: a model, attention, a scheduler, a policy.
BASIS = (
    hook("models", '[ModelSpec(name="fake", target="PACKAGE:M", architectures=("FakeForCausalLM",))]'),
    hook("attention_backends", '[AttentionBackendSpec(name="plain", target="PACKAGE:A")]'),
    hook("schedulers", '[SchedulerSpec(name="simple", target="PACKAGE:S")]'),
    hook("schedule_policies", '[SchedulePolicySpec(name="fcfs", target="PACKAGE:P")]'),
)


class PluginBench:
    """A folder where plugins are installed, a checkpoint, and engines resolved with both."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._site = folder / "site"
        self._site.mkdir()
        #: Model "fake" for FakeForCausalLM, attention "plain", scheduler "simple", policy "fcfs".
        install(self._site, "basis", *BASIS)
        self.checkpoint = write_checkpoint(folder / "checkpoint")
        only(monkeypatch, [self._site])

    def offer(self, kind: str, body: str, *, plugin: str = "mine", **files: str) -> None:
        """Install a plugin that offers ``body``; ``files`` are modules beside it."""
        fake = install(self._site, plugin, hook(kind, body))
        for name, source in files.items():
            (self._site / fake.package / f"{name}.py").write_text(source)

    def resolve(self, *, for_server: bool = False, facts: DeviceFacts = CPU, **keywords: Any) -> EnginePlan:
        """The plan for the checkpoint, or for ``model``."""
        keywords.setdefault("model", str(self.checkpoint))
        config = load_config(environ={}, keywords=keywords).config
        return resolve_engine(config, load_plugins(config), for_server=for_server, device=facts)
