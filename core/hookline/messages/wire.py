"""Which messages each channel carries, and their encoding: msgpack with tagged unions."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec

from hookline.messages.control import ControlReply, ControlRequest, SchedulerStats
from hookline.messages.outputs import BatchEmbeddingOutput, BatchTextOutput, BatchTokenOutput
from hookline.messages.requests import AbortReq, TokenizedRequest

M = TypeVar("M")

#: Tokenizer manager -> scheduler.
SchedulerInput = TokenizedRequest | AbortReq | ControlRequest
#: Scheduler -> detokenizer. One pipe for everything keeps the scheduler's order.
SchedulerOutput = BatchTokenOutput | BatchEmbeddingOutput | ControlReply | SchedulerStats
#: Detokenizer -> tokenizer manager; all but the token outputs pass unchanged.
FrontendInput = BatchTextOutput | BatchEmbeddingOutput | ControlReply | SchedulerStats


class Codec(Generic[M]):
    """Encodes and decodes the messages of one channel. Not for use by two threads at once."""

    def __init__(self, kind: Any) -> None:
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[M] = msgspec.msgpack.Decoder(kind)

    def encode(self, message: M) -> bytes:
        """The message as bytes."""
        return self._encoder.encode(message)

    def decode(self, data: bytes) -> M:
        """The message; raises ``msgspec.DecodeError`` for anything but what the channel carries."""
        return self._decoder.decode(data)


def scheduler_input_codec() -> Codec[SchedulerInput]:
    """Codec of the channel into the scheduler."""
    return Codec(SchedulerInput)


def scheduler_output_codec() -> Codec[SchedulerOutput]:
    """Codec of the channel from the scheduler to the detokenizer."""
    return Codec(SchedulerOutput)


def frontend_input_codec() -> Codec[FrontendInput]:
    """Codec of the channel from the detokenizer to the tokenizer manager."""
    return Codec(FrontendInput)
