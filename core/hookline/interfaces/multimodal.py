"""Pictures, clips and other media: how they are fetched, turned into model inputs, and placed in a prompt.

A medium goes this way: a ``MediaLoader`` fetches its bytes; core decodes them to uint8 pixels; the model's
``MultimodalProcessor`` makes ``ProcessedMedia`` of the pixels and expands the prompt, all in the frontend and without
torch. Each ``ProcessedItem`` then travels to the workers, where ``Model.encode`` makes embedding rows of it, once for
all requests that have it.

Shape letters: H height, W width, F frames, N rows that the encoder yields for an item, P position planes, T tokens,
E elements of an embedding row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from hookline.interfaces.spec import Spec

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    from hookline.config.model_config import ModelConfig

#: Kinds of media that core can load and decode.
IMAGE = "image"
VIDEO = "video"


# --- fetching ---


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaLoaderSpec(Spec):
    """A media loader. ``target`` is a subclass of ``MediaLoader``, called with a ``MediaLoaderEnv``."""

    kind: ClassVar[str] = "media_loaders"
    target_base: ClassVar[str] = "hookline.interfaces.multimodal:MediaLoader"

    #: Schemes of the references that it answers for, in lower case: ("http", "https").
    schemes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaLoaderEnv:
    """Fixed facts, known when the loader is made."""

    #: The ``multimodal`` section of the config.
    config: Any
    options: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaLimits:
    """What one fetch may take."""

    max_bytes: int
    #: Seconds for the whole fetch, redirects included.
    timeout: float
    max_redirects: int


class MediaLoader(ABC):
    """Fetches the bytes of media. Lives in the frontend, for as long as it runs."""

    def __init__(self, env: MediaLoaderEnv) -> None:
        self.env = env

    @abstractmethod
    async def fetch(self, ref: str, limits: MediaLimits) -> bytes:
        """The bytes behind ``ref``, whose scheme is one of the spec's.

        Runs on the server's event loop: awaits what takes time. Raises ``RequestError`` saying what is wrong with
        the reference; never gives more than ``limits.max_bytes``.
        """

    async def close(self) -> None:  # noqa: B027 - optional
        """Give back connections and the like."""


# --- processing ---


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaParams:
    """What a request asks of the processing of one medium; ``None``: as the checkpoint says."""

    min_pixels: int | None = None
    max_pixels: int | None = None
    #: Frames for each second of a clip, or their number; at most one of the two is set.
    fps: float | None = None
    num_frames: int | None = None


#: As the checkpoint says in everything.
NO_PARAMS = MediaParams()


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaInput:
    """One medium of a request, as a client gives it."""

    kind: str
    #: A reference (URL, ``data:`` URI), the bytes of a file, or pixels [H, W, 3] uint8; for a clip also a sequence of
    #: these, its frames, none of which is left out.
    source: str | bytes | npt.NDArray[np.uint8] | Sequence[str | bytes | npt.NDArray[np.uint8]]
    params: MediaParams = NO_PARAMS
    #: Frames a second of a sequence of frames, if known.
    fps: float | None = None
    #: Its place in the request, for errors: "messages[0].content[1]".
    where: str = "media"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipInfo:
    """What the container of a clip says, before any frame is decoded."""

    num_frames: int
    height: int
    width: int
    #: Frames a second; ``None`` where the clip does not say, as for a plain list of frames.
    fps: float | None
    #: Seconds; ``None`` where unknown.
    duration: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedImage:
    """A picture."""

    #: [H, W, 3] uint8, RGB.
    pixels: npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedVideo:
    """The frames of a clip that the processor chose."""

    #: [F, H, W, 3] uint8, RGB.
    frames: npt.NDArray[np.uint8]
    #: [F] index of each of them among the clip's frames.
    indices: Sequence[int]
    info: ClipInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessedItem:
    """What the encoder takes in one piece: a picture, or a run of frames of a clip."""

    #: What ``Model.encode`` wants, by name. Pixels stay uint8 and are normalised on the device.
    tensors: Mapping[str, npt.NDArray[Any]]
    #: Size in the model's own units, such as (frames, rows, columns) of patches.
    grid: tuple[int, ...]
    #: N: rows that the encoder yields, one for each placeholder token of the item.
    num_rows: int
    #: Encoder work in patches; passes of the encoder are filled up to a budget of them.
    cost: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessedMedia:
    """One medium of a request."""

    #: "image" or "video".
    kind: str
    #: One item for a picture. A long clip comes in several runs of frames that do not see each other in the encoder,
    #: so that encoding it does not keep others waiting.
    items: tuple[ProcessedItem, ...]
    #: What ``expand`` needs besides: timestamps and the like. Plain values.
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpandedPrompt:
    """A prompt whose placeholders stand once for each embedding row."""

    #: [T] ids of the vocabulary.
    input_ids: list[int]
    #: For each item, in the order of the media and of the items within each: the runs (start, length) of its
    #: placeholders in ``input_ids``. Lengths add up to the item's ``num_rows``; runs of all items are disjoint.
    spans: list[list[tuple[int, int]]]
    #: [P, T] int64, or ``None`` for a model whose positions count tokens.
    positions: npt.NDArray[np.int64] | None = None
    #: The position of the token after the prompt is T + ``position_delta``, in every plane, and so on.
    position_delta: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessorEnv:
    """Fixed facts, known when the processor is made."""

    #: The checkpoint; its files, such as preprocessor_config.json, lie in ``model.path``.
    model: ModelConfig
    #: Text to ids, special tokens by their names, nothing added.
    tokenize: Callable[[str], list[int]]
    #: Options of the plugin that offers the model.
    options: Any = None


class MultimodalProcessor(ABC):
    """Makes model inputs of media. Named by ``ModelSpec.processor``; lives in the frontend, imports no torch.

    ``process`` also runs in worker processes, which make a processor of their own from the same facts; ``tokenize``
    is not called there.
    """

    def __init__(self, env: ProcessorEnv) -> None:
        self.env = env

    @property
    @abstractmethod
    def placeholders(self) -> Mapping[str, str]:
        """Kind of medium that the model takes -> the text that stands for one in a prompt, one special token."""

    @abstractmethod
    def processing_key(self, kind: str, params: MediaParams) -> bytes:
        """All that decides what ``process`` makes of given bytes. Hashed together with them, before decoding."""

    def sample_frames(self, clip: ClipInfo, params: MediaParams) -> Sequence[int]:
        """Indices of the frames of a clip to decode, ascending; a frame may be named twice.

        Raises ``RequestError`` for a clip that is of no use. For models with ``placeholders["video"]``.
        """
        raise NotImplementedError(f"{type(self).__name__} takes no video")

    @abstractmethod
    def process(self, media: DecodedImage | DecodedVideo, params: MediaParams) -> ProcessedMedia:
        """The model's inputs of one medium. Pure: equal arguments give equal arrays.

        Raises ``RequestError`` saying what is wrong with the medium (its size, its number of frames).
        """

    @abstractmethod
    def expand(self, prompt: str | Sequence[int], media: Sequence[ProcessedMedia]) -> ExpandedPrompt:
        """The prompt as tokens, each placeholder in the place of as many as its medium has rows.

        ``prompt`` is text, or ids, with one placeholder for each medium; the n-th placeholder of a kind stands for
        the n-th medium of that kind. Items may come without their tensors here; ``facts`` are always there. Raises
        ``RequestError`` when there are more or fewer placeholders than media.
        """


# --- encoding, in the worker ---


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderItem:
    """A ``ProcessedItem`` on the host of a worker."""

    kind: str
    #: 32 bytes; equal digests mean equal rows.
    digest: bytes
    tensors: Mapping[str, npt.NDArray[Any]]
    grid: tuple[int, ...]
    num_rows: int
    cost: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderInput:
    """An ``EncoderItem`` on the device, as ``Model.encode`` gets it."""

    kind: str
    #: The item's tensors under their names, in the dtypes in which they came.
    tensors: Mapping[str, torch.Tensor]
    grid: tuple[int, ...]
    num_rows: int
