"""Every message survives its channel, and nothing else passes."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from hookline.messages.control import ControlReply, ControlRequest, SchedulerStats
from hookline.messages.outputs import (
    BatchEmbeddingOutput,
    BatchTextOutput,
    BatchTokenOutput,
    DetokenizeStart,
    FinishReason,
    RequestStats,
    TokenLogprob,
)
from hookline.messages.requests import AbortReq, CacheNamespace, LogprobRequest, PoolingRequest, TokenizedRequest
from hookline.messages.wire import Codec, frontend_input_codec, scheduler_input_codec, scheduler_output_codec
from hookline.sampling_params import SamplingParams

_PARAMS = SamplingParams(
    max_new_tokens=None,
    stop=("a", "β"),
    stop_token_ids=(1, 2),
    logit_bias={3: -1.5},
    json_schema="{}",
    seed=-5,
    logits_processors={"ban": {"ids": [1, 2]}},
)
_REQUEST = TokenizedRequest(
    rid="ü",
    input_ids=[1, 2, 3],
    sampling_params=_PARAMS,
    stream=True,
    choice_index=3,
    logprobs=LogprobRequest(top=2, token_ids=(4,), input_start=0),
    pooling=PoolingRequest(pooling="mean", dimensions=8),
    priority=-2,
    namespace=CacheNamespace(salt="a", extra_key="b"),
    lora="adapter",
    received_at=12.5,
    extras={1: b"\x00\xff"},
)
_LOGPROBS = [[TokenLogprob(None, 1), TokenLogprob(-math.inf, 2, [(1, -0.5)], [(7, -3.0)])], None]
_ENDS = [FinishReason(type="stop", matched="x"), None]
_COUNTS = [RequestStats(3, 1, 2, 1, 0.5), RequestStats(1, 0, 0)]
_STATS = SchedulerStats(
    num_running=1,
    num_waiting=2,
    num_gated=3,
    used_tokens=4,
    total_tokens=5,
    cached_tokens_total=6,
    prompt_tokens_total=7,
    generated_tokens_total=8,
    num_retractions_total=9,
    steps_total=10,
    seconds_since_step=0.5,
    stage_seconds={"launch": 1.0},
)
_EMBEDDINGS = BatchEmbeddingOutput(
    rids=["a"], embeddings=[[0.5, -1.0]], finish_reasons=[FinishReason(type="stop")], stats=[RequestStats(1, 0, 0)]
)
_REPLY = ControlReply(id=4, ok=False, message="no", data={"a": [1]})

_CASES: list[tuple[Codec[Any], Any]] = [
    (scheduler_input_codec(), _REQUEST),
    (scheduler_input_codec(), AbortReq(rids=["a"], reason="why")),
    (scheduler_input_codec(), ControlRequest(id=1, method="flush_cache", arguments={"path": "/x", "tags": ["kv"]})),
    (
        scheduler_output_codec(),
        BatchTokenOutput(
            rids=["a", "b"],
            token_ids=[[1], []],
            finish_reasons=_ENDS,
            stats=_COUNTS,
            starts=[DetokenizeStart(rid="a", prompt_tail=[1], stop=("x",))],
            output_logprobs=_LOGPROBS,
        ),
    ),
    (scheduler_output_codec(), _EMBEDDINGS),
    (scheduler_output_codec(), _REPLY),
    (scheduler_output_codec(), _STATS),
    (
        frontend_input_codec(),
        BatchTextOutput(
            rids=["a", "b"], texts=["x", ""], token_ids=[[1], []], finish_reasons=_ENDS, stats=_COUNTS,
            input_logprobs=_LOGPROBS,
        ),
    ),
    (frontend_input_codec(), _EMBEDDINGS),
    (frontend_input_codec(), _REPLY),
    (frontend_input_codec(), _STATS),
]  # fmt: skip


@pytest.mark.parametrize(("codec", "message"), _CASES, ids=lambda value: type(value).__name__)
def test_message_survives_its_channel(codec: Codec[Any], message: Any) -> None:
    assert codec.decode(codec.encode(message)) == message


def test_message_of_another_channel_is_refused() -> None:
    with pytest.raises(msgspec.DecodeError):
        scheduler_input_codec().decode(frontend_input_codec().encode(_STATS))


def test_pickle_is_not_decoded() -> None:
    import pickle

    with pytest.raises(msgspec.DecodeError):
        scheduler_input_codec().decode(pickle.dumps(_REQUEST.rid))


def test_sampling_params_are_checked_again_on_arrival() -> None:
    codec = scheduler_input_codec()
    data = codec.encode(_REQUEST)
    forged = data.replace(msgspec.msgpack.encode("top_p") + msgspec.msgpack.encode(1.0),
                          msgspec.msgpack.encode("top_p") + msgspec.msgpack.encode(7.0))  # fmt: skip
    assert forged != data
    with pytest.raises(msgspec.DecodeError, match="top_p"):
        codec.decode(forged)
