"""Request bodies of the Ollama API. ``None`` means "not given"."""

from __future__ import annotations

from typing import Any

from hookline.api.bodies import RequestBody


class RunOptions(RequestBody):
    """``options``. What is not declared here is reported as unread, like every other field."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    num_predict: int | None = None
    stop: str | list[str] | None = None
    repeat_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None

    #: Taken without effect: how a model is loaded is settled when the server starts.
    num_ctx: int | None = None
    num_batch: int | None = None
    num_gpu: int | None = None
    main_gpu: int | None = None
    num_thread: int | None = None
    num_keep: int | None = None
    numa: bool | None = None
    low_vram: bool | None = None
    f16_kv: bool | None = None
    use_mmap: bool | None = None
    use_mlock: bool | None = None


class ModelBody(RequestBody):
    """What all calls about one model share."""

    model: str
    options: RunOptions | None = None
    #: The model stays for as long as the server runs; 0 is answered as Ollama answers it, without effect.
    keep_alive: float | str | None = None


class RunBody(ModelBody):
    """What chat and generate share."""

    #: Ollama streams unless told otherwise.
    stream: bool | None = None
    #: "json", a JSON schema, or "" for neither.
    format: str | dict[str, Any] | None = None
    #: Or how hard: "low", "medium", "high".
    think: bool | str | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None

    @property
    def is_streamed(self) -> bool:
        return self.stream is not False

    @property
    def unloads(self) -> bool:
        """Whether the model should go at once."""
        return self.keep_alive in (0, "0", "0s", "0m", "0h")


class ChatBody(RunBody):
    """``/api/chat``. Without messages it only loads the model."""

    messages: list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None


class GenerateBody(RunBody):
    """``/api/generate``. Without a prompt it only loads the model."""

    prompt: str = ""
    system: str = ""
    #: The prompt goes to the model as it is, without the chat template.
    raw: bool | None = None

    #: Refused unless empty.
    suffix: str = ""
    template: str = ""
    context: list[int] | None = None
    images: list[str] | None = None


class EmbedBody(ModelBody):
    """``/api/embed``."""

    input: str | list[str]
    #: Whether a text that is too long is cut at the end of the context; an error otherwise.
    truncate: bool | None = None
    dimensions: int | None = None


class ShowBody(RequestBody):
    """``/api/show``. ``name`` is an older name of ``model``."""

    model: str = ""
    name: str = ""
    verbose: bool | None = None
