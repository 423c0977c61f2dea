"""Channels over ZMQ, both ends in this process."""

from __future__ import annotations

import asyncio
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq

from hookline.errors import OverloadedError, RequestError
from hookline.messages import sockets
from hookline.messages.requests import AbortReq
from hookline.messages.sockets import AsyncSocketReceiver, SocketDirectory, SocketReceiver, SocketSender
from hookline.messages.wire import SchedulerInput, scheduler_input_codec

Pair = tuple[SocketReceiver[SchedulerInput], SocketSender[SchedulerInput]]
MakePair = Callable[..., Pair]


@pytest.fixture
def directory() -> Iterator[SocketDirectory]:
    made = SocketDirectory()
    yield made
    made.remove()


@pytest.fixture
def make_pair(directory: SocketDirectory) -> Iterator[MakePair]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    opened: list[SocketReceiver[SchedulerInput] | SocketSender[SchedulerInput]] = []

    def make(*, wait_when_full: bool = False, max_queued: int = 1000) -> Pair:
        address = directory.address(f"channel{len(opened)}")
        receiver = SocketReceiver(address, scheduler_input_codec(), context=context, max_queued=max_queued)
        sender = SocketSender(
            address, scheduler_input_codec(), context=context, wait_when_full=wait_when_full, max_queued=max_queued
        )
        opened.extend([receiver, sender])
        return receiver, sender

    yield make
    for end in opened:
        end.close()
    context.term()


def _abort(number: int) -> AbortReq:
    return AbortReq(rids=[str(number)])


def test_socket_directory_is_private(directory: SocketDirectory) -> None:
    assert stat.S_IMODE(directory.path.stat().st_mode) == 0o700


def test_long_temporary_directory_does_not_break_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("x" * 90)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    made = SocketDirectory()
    try:
        assert len(made.address("detokenizer")) < 107
        assert stat.S_IMODE(made.path.stat().st_mode) == 0o700
        assert not list(deep.iterdir())
    finally:
        made.remove()


def test_messages_keep_their_order(make_pair: MakePair) -> None:
    receiver, sender = make_pair()
    for number in range(500):
        sender.send(_abort(number))
    received: list[SchedulerInput] = []
    while len(received) < 500:
        messages = receiver.receive(timeout=5.0)
        assert messages
        received += messages
    assert received == [_abort(number) for number in range(500)]


def test_receive_without_messages_gives_nothing(make_pair: MakePair) -> None:
    receiver, _ = make_pair()
    assert receiver.receive() == []
    assert receiver.receive(timeout=0.01) == []


def test_waiting_receiver_uses_no_processor_time(make_pair: MakePair) -> None:
    receiver, sender = make_pair()
    timer = threading.Timer(0.4, sender.send, [_abort(1)])
    timer.start()
    before = time.thread_time()
    assert receiver.receive(timeout=None) == [_abort(1)]
    timer.join()
    # A spinning wait would use all of the 0.4 s.
    assert time.thread_time() - before < 0.1


def test_writer_may_start_before_the_reader(directory: SocketDirectory) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    address = directory.address("late")
    sender = SocketSender(address, scheduler_input_codec(), context=context, wait_when_full=False)
    sender.send(_abort(1))
    receiver = SocketReceiver(address, scheduler_input_codec(), context=context)
    assert receiver.receive(timeout=5.0) == [_abort(1)]
    sender.close()
    receiver.close()
    context.term()


def test_channel_works_after_its_directory_is_removed(make_pair: MakePair, directory: SocketDirectory) -> None:
    receiver, sender = make_pair()
    sender.send(_abort(1))
    assert receiver.receive(timeout=5.0) == [_abort(1)]
    directory.remove()
    sender.send(_abort(2))
    assert receiver.receive(timeout=5.0) == [_abort(2)]


def test_full_channel_refuses_rather_than_waits(make_pair: MakePair) -> None:
    _, sender = make_pair(max_queued=4)

    def fill() -> None:
        for number in range(100_000):
            # Large messages, so that the kernel's buffers fill up as well.
            sender.send(AbortReq(rids=["x" * 100_000], reason=str(number)))

    with pytest.raises(OverloadedError, match="messages behind"):
        fill()


def test_full_channel_waits_and_loses_nothing(make_pair: MakePair) -> None:
    receiver, sender = make_pair(wait_when_full=True, max_queued=4)
    count = 200
    done = threading.Event()

    def write() -> None:
        for number in range(count):
            sender.send(AbortReq(rids=["x" * 100_000], reason=str(number)))
        done.set()

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    assert not done.wait(0.2), "the writer should wait for its reader"
    reasons: list[str] = []
    while len(reasons) < count:
        reasons += [message.reason for message in receiver.receive(timeout=5.0) if isinstance(message, AbortReq)]
    writer.join(5.0)
    assert reasons == [str(number) for number in range(count)]


def test_oversized_message_fails_its_sender_only(make_pair: MakePair, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver, sender = make_pair()
    monkeypatch.setattr(sockets, "MAX_MESSAGE_BYTES", 1000)
    with pytest.raises(RequestError, match="does not fit"):
        sender.send(AbortReq(rids=["x" * 2000]))
    sender.send(_abort(1))
    assert receiver.receive(timeout=5.0) == [_abort(1)]


async def test_async_receiver_gets_bursts_whole_and_in_order(make_pair: MakePair) -> None:
    receiver, sender = make_pair()
    incoming = AsyncSocketReceiver(receiver)
    received: list[SchedulerInput] = []
    for start in (0, 300):
        for number in range(start, start + 300):
            sender.send(_abort(number))
        while len(received) < start + 300:
            async with asyncio.timeout(5.0):
                received += await incoming.receive()
    incoming.stop()
    assert received == [_abort(number) for number in range(600)]


async def test_async_receiver_lets_other_tasks_run_under_load(make_pair: MakePair) -> None:
    receiver, sender = make_pair(max_queued=10_000)
    for number in range(5000):
        sender.send(_abort(number))
    incoming = AsyncSocketReceiver(receiver)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    count = 0
    while count < 5000:
        count += len(await incoming.receive())
    task.cancel()
    incoming.stop()
    assert turns >= 5000 // 16
