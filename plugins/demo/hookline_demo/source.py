"""Where the demo checkpoint and its adapters lie: in the package itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hookline.errors import ModelError
from hookline.interfaces.checkpoints import CheckpointSource

PACKAGE = Path(__file__).parent
CHECKPOINT = PACKAGE / "checkpoint"
ADAPTERS = PACKAGE / "adapters"


class DemoCheckpointSource(CheckpointSource):
    """Answers for the name `demo`."""

    def locate(self, name: str, *, revision: str | None, offline: bool) -> Path:
        if revision is not None:
            raise ModelError(
                f"the demo checkpoint has no revisions, but {revision!r} was asked for; leave the revision out"
            )
        if not (CHECKPOINT / "config.json").is_file():
            raise ModelError(
                f"no config.json in {CHECKPOINT}; install hookline-demo again, or train the "
                "checkpoint as the README of the demo plugin says"
            )
        return CHECKPOINT

    def adapters(self, name: str) -> Mapping[str, Path]:
        if not ADAPTERS.is_dir():
            return {}
        found = sorted(ADAPTERS.glob("*/adapter_config.json"))
        return {file.parent.name: file.parent for file in found}
