"""Checkpoint sources: names that stand for a directory with a checkpoint."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from hookline.interfaces.spec import Spec


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSourceSpec(Spec):
    """A source of checkpoints. ``target`` is a subclass of ``CheckpointSource``, called without arguments.

    ``checkpoints`` lists exact names that the source alone answers for, with one line each ("demo").
    A source with ``claims_ids`` is asked for every name of the form that a hub uses ("org/name") that is
    neither a directory nor listed by another source.
    """

    kind: ClassVar[str] = "checkpoint_sources"
    target_base: ClassVar[str] = "hookline.interfaces.checkpoints:CheckpointSource"

    checkpoints: tuple[tuple[str, str], ...] = ()
    claims_ids: bool = False
    #: The checkpoint of this source that serves when the user names none; at most one source may set it.
    default: str | None = None


class CheckpointSource(ABC):
    """Turns a checkpoint's name into a local directory. Runs in the launcher, before any process starts."""

    @abstractmethod
    def locate(self, name: str, *, revision: str | None, offline: bool) -> Path:
        """The directory that holds config.json and the weights.

        Raises ``ModelError`` that says what was looked for and what to do.
        """

    def adapters(self, name: str) -> Mapping[str, Path]:
        """LoRA adapters that come with the checkpoint: name -> directory."""
        return {}
