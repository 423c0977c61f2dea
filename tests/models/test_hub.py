"""The Hugging Face source without a network: the cache answers, and every failure says what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from hookline.errors import ModelError
from hookline.interfaces.checkpoints import CheckpointSourceSpec
from hookline_models import hub
from hookline_models.hub import HuggingFaceHub
from hookline_models.plugin import PLUGIN, hookline_checkpoint_sources

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that holds org/tiny at one commit, as main and as v1."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    repo = tmp_path / "models--org--tiny"
    (repo / "refs").mkdir(parents=True)
    for ref in ("main", "v1"):
        (repo / "refs" / ref).write_text(COMMIT)
    snapshot = repo / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    return snapshot


def locate(name: str = "org/tiny", *, revision: str | None = None, offline: bool = True) -> Path:
    return HuggingFaceHub().locate(name, revision=revision, offline=offline)


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def download(name: str, **options: Any) -> str:
        raise error

    monkeypatch.setattr(hub, "snapshot_download", download)


def response(status: int) -> Any:
    # huggingface_hub takes the answer of whichever HTTP client its release is built on.
    return httpx.Response(status, request=httpx.Request("GET", "https://huggingface.co/org/tiny"))


def test_hook_hookline_checkpoint_sources() -> None:
    (spec,) = hookline_checkpoint_sources()
    assert isinstance(spec, CheckpointSourceSpec)
    assert spec.kind in PLUGIN.provides
    assert spec.claims_ids
    assert spec.target == f"{HuggingFaceHub.__module__}:{HuggingFaceHub.__name__}"


@pytest.mark.parametrize("revision", [None, "main", "v1", COMMIT])
def test_the_cache_answers_offline(revision: str | None, cache: Path) -> None:
    assert locate(revision=revision) == cache


def test_an_id_that_is_not_cached_cannot_be_had_offline(cache: Path) -> None:
    with pytest.raises(ModelError, match=r"'org/other' is neither .* nor in the .* cache, and model\.offline"):
        locate("org/other")
    with pytest.raises(ModelError, match=r"'org/tiny' at revision 'v2' is neither"):
        locate(revision="v2")


def test_a_cached_repository_without_a_config_is_refused(cache: Path) -> None:
    (cache / "config.json").unlink()
    with pytest.raises(ModelError, match=r"has no config\.json.*fetch it again"):
        locate()


def test_a_name_of_the_wrong_form_is_refused(cache: Path) -> None:
    with pytest.raises(ModelError, match="neither a directory nor a Hugging Face id"):
        locate("org/na me/x")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RepositoryNotFoundError("404", response=response(404)), "has no model 'org/tiny', or it is private.*HF_TOKEN"),
        (GatedRepoError("403", response=response(403)), "gated: accept its terms.*HF_TOKEN"),
        (RevisionNotFoundError("404", response=response(404)), "has no revision 'v9'"),
        (LocalEntryNotFoundError("no connection\nmore"), r"cannot be reached \(no connection\)"),
        (HfHubHTTPError("500 server error", response=response(500)), "cannot fetch 'org/tiny'.*500 server error"),
        (OSError("disk full"), "cannot fetch 'org/tiny'.*disk full"),
    ],
)
def test_what_the_hub_refuses_is_said(error: Exception, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, error)
    with pytest.raises(ModelError, match=message):
        locate(revision="v9", offline=False)


def test_revision_and_offline_reach_the_hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, Any, Any]] = []

    def download(name: str, *, revision: str | None, local_files_only: bool, **options: Any) -> str:
        seen.append((name, revision, local_files_only))
        return str(cache)

    monkeypatch.setattr(hub, "snapshot_download", download)
    locate(revision="v1", offline=False)
    locate()
    assert seen == [("org/tiny", "v1", False), ("org/tiny", None, True)]
