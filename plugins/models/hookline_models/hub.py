"""HuggingFaceHub: checkpoints by id, through huggingface_hub and its cache."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from hookline.errors import ModelError
from hookline.interfaces.checkpoints import CheckpointSource

#: Configuration, weights, tokenizer and chat template.
_FILES = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt", "*.tiktoken"]
#: Second copies of the weights in other formats.
_UNUSED = ["original/*", "consolidated*", "onnx/*", "openvino/*", "*.bin.index.json"]


class HuggingFaceHub(CheckpointSource):
    """Downloads a repository once; afterwards, and offline, answers from the cache."""

    def locate(self, name: str, *, revision: str | None, offline: bool) -> Path:
        """The snapshot's directory. huggingface_hub's own settings (HF_HOME, HF_TOKEN ...) apply."""
        try:
            folder = snapshot_download(
                name, revision=revision, allow_patterns=_FILES, ignore_patterns=_UNUSED, local_files_only=offline
            )
        except (RepositoryNotFoundError, GatedRepoError, RevisionNotFoundError, HFValidationError) as exc:
            raise ModelError(_refused(name, revision, exc)) from exc
        except (LocalEntryNotFoundError, OfflineModeIsEnabled) as exc:
            raise ModelError(_not_cached(name, revision, offline, exc)) from exc
        except (HfHubHTTPError, OSError) as exc:
            raise ModelError(f"cannot fetch '{name}' from Hugging Face: {_first_line(exc)}") from exc
        path = Path(folder)
        if not (path / "config.json").is_file():
            raise ModelError(
                f"'{name}' on Hugging Face{_at(revision)} has no config.json (looked in '{path}'): it is no checkpoint "
                "for transformers, or its download was cut short; delete that directory to fetch it again"
            )
        return path


def _refused(name: str, revision: str | None, exc: Exception) -> str:
    if isinstance(exc, GatedRepoError):
        return f"'{name}' on Hugging Face is gated: accept its terms on the website and set HF_TOKEN"
    if isinstance(exc, RevisionNotFoundError):
        return f"'{name}' on Hugging Face has no revision '{revision}'; give a branch, tag or commit of it"
    if isinstance(exc, HFValidationError):
        return f"'{name}' is neither a directory nor a Hugging Face id of the form 'org/name'"
    return f"Hugging Face has no model '{name}', or it is private; check the spelling, or set HF_TOKEN if it is yours"


def _not_cached(name: str, revision: str | None, offline: bool, exc: Exception) -> str:
    if offline:
        return (
            f"'{name}'{_at(revision)} is neither a directory nor in the Hugging Face cache, and model.offline forbids "
            "the network; download it first, or give a directory"
        )
    return (
        f"'{name}'{_at(revision)} is neither a directory nor in the Hugging Face cache, and Hugging Face cannot be "
        f"reached ({_first_line(exc)}); give a directory, or check the network and HF_HUB_OFFLINE"
    )


def _at(revision: str | None) -> str:
    return "" if revision is None else f" at revision '{revision}'"


def _first_line(exc: Exception) -> str:
    text = str(exc).strip()
    return text.splitlines()[0] if text else type(exc).__name__
