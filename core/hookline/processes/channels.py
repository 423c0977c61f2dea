"""The three channels of a server, and who holds which end.

    tokenizer manager --"scheduler"--> scheduler --"detokenizer"--> detokenizer --"frontend"--> tokenizer manager

One ring: whatever the scheduler says reaches the tokenizer manager in the order in which it said it.
"""

from __future__ import annotations

from collections.abc import Mapping

import zmq

from hookline.messages.sockets import SocketDirectory, SocketReceiver, SocketSender
from hookline.messages.wire import (
    FrontendInput,
    SchedulerInput,
    SchedulerOutput,
    frontend_input_codec,
    scheduler_input_codec,
    scheduler_output_codec,
)

Context = zmq.Context[zmq.Socket[bytes]]

_NAMES = ("scheduler", "detokenizer", "frontend")


def channel_addresses(directory: SocketDirectory) -> dict[str, str]:
    """Channel name -> ZMQ address."""
    return {name: directory.address(name) for name in _NAMES}


def frontend_ends(
    addresses: Mapping[str, str], context: Context
) -> tuple[SocketReceiver[FrontendInput], SocketSender[SchedulerInput]]:
    """The ends of the tokenizer manager, whose loop must never wait."""
    receiver = SocketReceiver(addresses["frontend"], frontend_input_codec(), context=context)
    sender = SocketSender(addresses["scheduler"], scheduler_input_codec(), context=context, wait_when_full=False)
    return receiver, sender


def scheduler_ends(
    addresses: Mapping[str, str], context: Context
) -> tuple[SocketReceiver[SchedulerInput], SocketSender[SchedulerOutput]]:
    """The ends of the scheduler. It waits when the detokenizer is far behind."""
    receiver = SocketReceiver(addresses["scheduler"], scheduler_input_codec(), context=context)
    sender = SocketSender(addresses["detokenizer"], scheduler_output_codec(), context=context, wait_when_full=True)
    return receiver, sender


def detokenizer_ends(
    addresses: Mapping[str, str], context: Context
) -> tuple[SocketReceiver[SchedulerOutput], SocketSender[FrontendInput]]:
    """The ends of the detokenizer. It waits when the tokenizer manager is far behind."""
    receiver = SocketReceiver(addresses["detokenizer"], scheduler_output_codec(), context=context)
    sender = SocketSender(addresses["frontend"], frontend_input_codec(), context=context, wait_when_full=True)
    return receiver, sender
