"""Locate a checkpoint: a name, a directory or a hub id becomes a local directory."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hookline.errors import ConfigError, ModelError
from hookline.interfaces.checkpoints import CheckpointSource, CheckpointSourceSpec
from hookline.plugins.context import Context
from hookline.plugins.names import near_miss
from hookline.plugins.plan import PluginPlan
from hookline.plugins.registry import Offer, Registry
from hookline.plugins.resolve import Wish, choose, resolve_wish

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_PATH_LIKE = re.compile(r"^(/|\./|\.\./|~|\.$|\.\.$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A checkpoint on this machine."""

    #: What the user named, or the default's name.
    name: str
    path: Path
    #: LoRA adapters that come with it: name -> directory.
    adapters: Mapping[str, Path] = field(default_factory=dict)
    #: How the name was understood, for the log.
    reason: str = ""

    @property
    def short_name(self) -> str:
        """The last part of the name, which clients use by default."""
        return Path(self.name).expanduser().resolve().name if _PATH_LIKE.match(self.name) else Path(self.name).name


def locate_checkpoint(
    name: str | None, registry: Registry, *, revision: str | None = None, offline: bool = False
) -> Checkpoint:
    """Find a checkpoint: a name that a source lists, a directory, or an id that a source claims, in that order.

    ``None`` is the default of the one source that has any. Raises ``ModelError`` saying where was looked.
    """
    if name is None:
        source = _default_source(registry)
        assert source.spec.default is not None
        reason = f"no model was named; the default of {source.source}"
        return _ask(source, source.spec.default, registry, revision, offline, reason)
    listing = [
        offer
        for offer in registry.offers(CheckpointSourceSpec)
        if name in [listed for listed, _ in offer.spec.checkpoints]
    ]
    if listing:
        source = registry.preferred("checkpoint_sources", name, listing)
        return _ask(source, name, registry, revision, offline, f"a checkpoint of {source.source}")
    path = Path(name).expanduser()
    if path.is_dir():
        if revision is not None:
            raise ConfigError(f"model.revision is '{revision}', but '{name}' is a directory, which has no revisions")
        return Checkpoint(name=name, path=path.resolve(), reason="a directory")
    if path.exists():
        raise ModelError(f"'{name}' is a file; name the directory that holds config.json and the weights")
    if _PATH_LIKE.match(name):
        raise ModelError(f"there is no directory '{name}' (seen from {Path.cwd()})")
    return _ask_hub(name, registry, revision, offline)


def read_chat_template(tokenizer_path: Path, override: str | None) -> str:
    """The source text of the chat template, for what may be read off it; "" when there is none."""
    if override is not None:
        return _read_text(Path(override))
    alone = tokenizer_path / "chat_template.jinja"
    if alone.is_file():
        return _read_text(alone)
    file = tokenizer_path / "tokenizer_config.json"
    if not file.is_file():
        return ""
    try:
        template = json.loads(_read_text(file)).get("chat_template")
    except (ValueError, AttributeError):
        # Whoever loads the tokenizer tells what is wrong with the file.
        return ""
    if isinstance(template, list):
        return "\n".join(str(item.get("template", "")) for item in template if isinstance(item, dict))
    return template if isinstance(template, str) else ""


def _default_source(registry: Registry) -> Offer[CheckpointSourceSpec]:
    sources = [offer for offer in registry.offers(CheckpointSourceSpec) if offer.spec.default is not None]
    if not sources:
        broken = "".join(f"; {plugin}" for plugin in registry.broken)
        raise ModelError(
            "no model was named, and no plugin brings a default one; name a directory or a hub id, or install the "
            f"demo model: pip install hookline-demo{broken}"
        )
    return registry.preferred("checkpoint_sources", "default", sources)


def _ask_hub(name: str, registry: Registry, revision: str | None, offline: bool) -> Checkpoint:
    names = [listed for offer in registry.offers(CheckpointSourceSpec) for listed, _ in offer.spec.checkpoints]
    near = near_miss(name, names)
    known = f"{near} (known names: {', '.join(names) or 'none'})"
    if not _HUB_ID.fullmatch(name):
        raise ModelError(f"'{name}' is neither a directory nor of the form of a hub id{known}")
    claiming = [offer for offer in registry.offers(CheckpointSourceSpec) if offer.spec.claims_ids]
    if not claiming:
        raise ModelError(
            f"'{name}' is not a directory, and no plugin loads hub ids{known}; pip install hookline-models"
        )
    if near and "/" not in name:
        raise ModelError(f"unknown checkpoint '{name}'{known}")
    return _ask(claiming[0], name, registry, revision, offline, f"a hub id, loaded by {claiming[0].source}")


def _ask(
    offer: Offer[CheckpointSourceSpec],
    name: str,
    registry: Registry,
    revision: str | None,
    offline: bool,
    reason: str,
) -> Checkpoint:
    wish = Wish(kind=offer.spec.kind, names=(offer.spec.name,), setting=f"the model '{name}'")
    resolve_wish(registry, wish, Context())
    target = PluginPlan(source_paths=registry.source_paths).load(choose(offer))
    source: CheckpointSource = target()
    path = source.locate(name, revision=revision, offline=offline)
    return Checkpoint(name=name, path=Path(path).resolve(), adapters=dict(source.adapters(name)), reason=reason)


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ModelError(f"cannot read '{file}': {exc}") from exc
