"""EncoderOrders: what a worker does with its embedding rows, as the scheduler describes it. Host data only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hookline.interfaces.multimodal import EncoderItem


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderOrders:
    """Done in the order of the fields, before any pass that is launched later."""

    #: Digests whose rows move from the device to the host's memory.
    offload: Sequence[bytes] = ()
    #: Digests whose rows are dropped.
    drop: Sequence[bytes] = ()
    #: Items to encode in one go; their rows stay on the device until another order moves or drops them.
    encode: Sequence[EncoderItem] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaRun:
    """Consecutive placeholders of one item in a pass, and the rows that take their places."""

    #: Its rows were ordered to be encoded before the pass was launched, and not dropped since.
    digest: bytes
    first_row: int
    num_rows: int
    #: Place of the first one among the T tokens.
    place: int
