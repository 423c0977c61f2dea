"""The fake scheduler alone, over channels in this process."""

from __future__ import annotations

from typing import Any

from hookline.bench.fake_scheduler import FakeScheduler, FakeSchedulerOptions
from hookline.messages.control import ControlRequest
from hookline.messages.outputs import BatchTokenOutput
from hookline.messages.requests import AbortReq, TokenizedRequest
from hookline.messages.wire import SchedulerInput
from hookline.sampling_params import SamplingParams


class Script:
    """Gives one batch of messages per call; what it is asked for beyond its end means "shutdown"."""

    def __init__(self, *batches: list[SchedulerInput]) -> None:
        self._batches = list(batches)

    def receive(self, timeout: float | None = 0.0) -> list[Any]:
        return self._batches.pop(0) if self._batches else [ControlRequest(id=0, method="shutdown")]


class Reader:
    """Takes what the scheduler sends, and says that it has read ``limit`` tokens at most."""

    def __init__(self, limit: int = 1 << 60) -> None:
        self.outputs: list[BatchTokenOutput] = []
        self._limit = limit

    def send(self, message: Any) -> None:
        if isinstance(message, BatchTokenOutput):
            self.outputs.append(message)

    def receive(self, timeout: float | None = 0.0) -> list[Any]:
        return [min(self._limit, self.num_tokens)]

    @property
    def num_tokens(self) -> int:
        return sum(len(tokens) for output in self.outputs for tokens in output.token_ids)

    def tokens(self, rid: str) -> list[int]:
        """All tokens of a request."""
        return [
            token
            for output in self.outputs
            for index, known in enumerate(output.rids)
            if known == rid
            for token in output.token_ids[index]
        ]


def request(rid: str, max_new_tokens: int) -> TokenizedRequest:
    return TokenizedRequest(rid=rid, input_ids=[7, 8, 9], sampling_params=SamplingParams(max_new_tokens=max_new_tokens))


def run(script: Script, reader: Reader, *, window: int, tokens_per_step: int = 1) -> None:
    options = FakeSchedulerOptions(acks="", window=window, tokens_per_step=tokens_per_step)
    FakeScheduler(script, reader, reader, options).run()


def test_every_request_gets_its_prompt_round_and_round_up_to_its_limit() -> None:
    reader = Reader()
    run(Script([request("a", 5), request("b", 2)], *[[] for _ in range(9)]), reader, window=100, tokens_per_step=2)
    assert reader.tokens("a") == [7, 8, 9, 7, 8]
    assert reader.tokens("b") == [7, 8]
    assert [start.rid for output in reader.outputs for start in output.starts] == ["a", "b"]
    ends = [
        (rid, finish.type)
        for output in reader.outputs
        for rid, finish in zip(output.rids, output.finish_reasons, strict=True)
        if finish is not None
    ]
    assert ends == [("b", "length"), ("a", "length")]


def test_it_stops_when_the_readers_are_a_window_behind() -> None:
    reader = Reader(limit=3)
    run(Script([request("a", 50)], *[[] for _ in range(30)]), reader, window=4)
    assert reader.num_tokens == 3 + 4


def test_an_aborted_request_ends_and_no_longer_counts() -> None:
    reader = Reader(limit=0)
    steps: list[list[SchedulerInput]] = [[] for _ in range(6)]
    run(Script([request("a", 50)], *steps, [request("b", 2)], [AbortReq(rids=["a"])], *steps), reader, window=4)
    assert reader.tokens("a") == [7, 8, 9, 7]
    assert reader.tokens("b") == [7, 8]
    (finish,) = [
        finish
        for output in reader.outputs
        for rid, finish in zip(output.rids, output.finish_reasons, strict=True)
        if rid == "a" and finish is not None
    ]
    assert (finish.type, finish.status_code) == ("abort", 499)
