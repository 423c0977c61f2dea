"""A whole scheduler on a fake device, and what comes out of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from hookline.interfaces.scheduling import SchedulePolicySpec, SchedulerSpec
from hookline.messages.control import ControlReply, ControlRequest, SchedulerStats
from hookline.messages.outputs import (
    BatchEmbeddingOutput,
    BatchTokenOutput,
    DetokenizeStart,
    FinishReason,
    RequestStats,
    TokenLogprob,
)
from hookline.messages.requests import (
    AbortReq,
    CacheNamespace,
    LogprobRequest,
    MultimodalInputs,
    PoolingRequest,
    TokenizedRequest,
)
from hookline.messages.transport import LocalChannel
from hookline.plugins.context import Context
from hookline.plugins.plan import ChosenSpec
from hookline.plugins.registry import Registry
from hookline.plugins.resolve import choose, resolve
from hookline.sampling_params import SamplingParams
from hookline.scheduler.factory import build_scheduler
from hookline.testkit.fake_tokens import expected_output
from hookline.testkit.fake_worker import FakeWorker
from hookline.testkit.offer_suite import installed
from hookline.testkit.plans import chosen, make_plan

VOCAB_SIZE = 97
EOS = 2


def letter(token_id: int) -> str:
    """The text of a token: printable characters, one for each."""
    return chr(0x21 + token_id) if token_id < 94 else "éßñ"[token_id - 94]


def talkative_prompts(count: int, num_output: int) -> list[list[int]]:
    """Short prompts whose output holds no end-of-sequence token for so long, although one could come."""
    found: list[list[int]] = []
    for number in range(VOCAB_SIZE * VOCAB_SIZE):
        prompt = [number // VOCAB_SIZE, number % VOCAB_SIZE]
        if EOS not in expected_output(prompt, num_output, VOCAB_SIZE):
            found.append(prompt)
            if len(found) == count:
                break
    return found


def save_checkpoint(directory: Path) -> Path:
    """A config.json and a tokenizer of one character per token, without weights."""
    directory.mkdir(parents=True, exist_ok=True)
    config = {
        "architectures": ["FakeForCausalLM"],
        "vocab_size": VOCAB_SIZE,
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "max_position_embeddings": 512,
        "eos_token_id": EOS,
    }
    (directory / "config.json").write_text(json.dumps(config))
    vocab = {letter(token): token for token in range(VOCAB_SIZE)}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token=letter(0)))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.save(str(directory / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    return directory


@dataclass
class Output:
    """What one request sent, put together."""

    token_ids: list[int] = field(default_factory=list)
    finish: FinishReason | None = None
    stats: RequestStats | None = None
    start: DetokenizeStart | None = None
    #: Token counts of each message.
    pieces: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    input_logprobs: list[TokenLogprob] | None = None
    embedding: list[float] | None = None

    @property
    def reason(self) -> str | None:
        return None if self.finish is None else self.finish.type


class Harness:
    """A scheduler with its worker and channels, checked after every step.

    ``scheduler`` is an installed one ("auto": the best), a "module:attribute", or a chosen spec. All installed
    policies can be named, and those among ``plugins``. Options of plugins are in ``config["plugins"]``, checked by
    the models of ``config_models``: plugin -> "module:Model".
    """

    def __init__(
        self,
        checkpoint: Path,
        worker: FakeWorker | None = None,
        *,
        overlap: bool = True,
        cache: bool = True,
        policy: str = "fcfs",
        chunk: int | None = None,
        scheduler: str | ChosenSpec = "auto",
        schedule: Mapping[str, Any] | None = None,
        config: Mapping[str, Mapping[str, Any]] | None = None,
        plugins: Sequence[ChosenSpec] = (),
        config_models: Mapping[str, str] | None = None,
        adapters: Mapping[str, str] | None = None,
        check: bool = True,
        **build: Any,
    ) -> None:
        sections: dict[str, dict[str, Any]] = {
            "execution": {"disable_overlap_schedule": not overlap},
            "cache": {"enable_prefix_cache": cache},
            "schedule": {"schedule_policy": policy, "chunked_prefill_size": chunk, **(schedule or {})},
            "observability": {"check_ledger": check},
        }
        for name, values in (config or {}).items():
            sections[name] = {**sections.get(name, {}), **values}
        registry = installed()
        chosen_specs = [
            scheduler if isinstance(scheduler, ChosenSpec) else _scheduler(registry, scheduler),
            *plugins,
            *(choose(offer) for offer in registry.offers(SchedulePolicySpec)),
        ]
        plan = make_plan(
            checkpoint,
            config=sections,
            plugins=chosen_specs,
            source_paths=registry.source_paths,
            config_models=config_models,
            adapters=adapters,
        )
        self.worker = worker or FakeWorker()
        self.inbox: LocalChannel[Any] = LocalChannel()
        self.outbox: LocalChannel[Any] = LocalChannel()
        self.scheduler = build_scheduler(plan, self.worker, self.inbox, self.outbox, **build)
        self.outputs: dict[str, Output] = {}
        self.replies: list[ControlReply] = []
        self.stats: list[SchedulerStats] = []
        #: Request ids in the order of their last message.
        self.finished: list[str] = []
        self.num_steps = 0

    def add(
        self,
        rid: str,
        prompt: Sequence[int],
        max_new_tokens: int | None = 8,
        *,
        stream: bool = True,
        logprobs: LogprobRequest | None = None,
        pooling: PoolingRequest | None = None,
        priority: int = 0,
        lora: str | None = None,
        choice_index: int = 0,
        received_at: float = 0.0,
        salt: str = "",
        multimodal: MultimodalInputs | None = None,
        **params: Any,
    ) -> None:
        """Send a request. Ends of text are ignored unless ``ignore_eos=False``."""
        params.setdefault("ignore_eos", True)
        self.inbox.send(
            TokenizedRequest(
                rid=rid,
                input_ids=list(prompt),
                sampling_params=SamplingParams(max_new_tokens=max_new_tokens, **params),
                stream=stream,
                logprobs=logprobs,
                multimodal=multimodal,
                pooling=pooling,
                priority=priority,
                lora=lora,
                choice_index=choice_index,
                received_at=received_at,
                namespace=CacheNamespace(salt=salt),
            )
        )

    def abort(self, *rids: str, everything: bool = False) -> None:
        self.inbox.send(AbortReq(rids=list(rids), all=everything))

    def control(self, method: str, **arguments: Any) -> ControlReply:
        """Ask, step once, and give the reply."""
        ident = len(self.replies) + 1
        self.inbox.send(ControlRequest(id=ident, method=method, arguments=arguments))
        self.step()
        reply = self.replies[-1]
        assert reply.id == ident
        return reply

    @property
    def state(self) -> dict[str, Any]:
        return self.control("server_state").data

    def step(self) -> bool:
        """One step and everything that came of it."""
        self.num_steps += 1
        has_work = self.scheduler.step()
        for message in self.outbox.receive():
            self._take(message)
        return has_work

    def run(self, max_steps: int = 2000) -> dict[str, Output]:
        """Step until nothing is left to do."""
        for _ in range(max_steps):
            if not self.step():
                return self.outputs
        raise AssertionError(f"work is left after {max_steps} steps: {self.state}")

    def run_until(self, done: Callable[[], bool], max_steps: int = 500) -> None:
        """Step until something holds."""
        for _ in range(max_steps):
            if done():
                return
            self.step()
        raise AssertionError(f"it did not happen within {max_steps} steps")

    def assert_idle(self) -> None:
        """Nothing is left anywhere."""
        state = self.state
        assert state["num_running"] == state["num_waiting"] == state["num_gated"] == 0
        assert state["free_slots"] + state["evictable_slots"] == state["total_tokens"]
        assert state["protected_slots"] == 0
        assert state["free_rows"] == state["total_rows"]
        assert state["ledger_violations"] == 0
        assert not self.scheduler.has_work

    def _take(self, message: Any) -> None:
        if isinstance(message, BatchTokenOutput):
            self._take_tokens(message)
        elif isinstance(message, BatchEmbeddingOutput):
            for rid, vector, finish, stats in zip(
                message.rids, message.embeddings, message.finish_reasons, message.stats, strict=True
            ):
                output = self.outputs.setdefault(rid, Output())
                output.embedding, output.stats = vector, stats
                self._finish(rid, output, finish)
        elif isinstance(message, ControlReply):
            self.replies.append(message)
        else:
            assert isinstance(message, SchedulerStats)
            self.stats.append(message)

    def _take_tokens(self, message: BatchTokenOutput) -> None:
        assert len(set(message.rids)) == len(message.rids)
        for start in message.starts:
            assert start.rid not in self.outputs, f"{start.rid} was announced twice"
            self.outputs[start.rid] = Output(start=start)
        for i, rid in enumerate(message.rids):
            output = self.outputs[rid]
            assert output.finish is None, f"{rid} was sent on after its end"
            output.token_ids += message.token_ids[i]
            output.pieces.append(len(message.token_ids[i]))
            output.stats = message.stats[i]
            assert output.stats.completion_tokens == len(output.token_ids)
            if message.output_logprobs:
                output.logprobs += message.output_logprobs[i] or []
            if message.input_logprobs and message.input_logprobs[i] is not None:
                assert output.input_logprobs is None, f"the prompt log-probabilities of {rid} were sent twice"
                output.input_logprobs = message.input_logprobs[i]
            self._finish(rid, output, message.finish_reasons[i])

    def _finish(self, rid: str, output: Output, finish: FinishReason | None) -> None:
        if finish is not None:
            assert rid not in self.finished, f"{rid} ended twice"
            output.finish = finish
            self.finished.append(rid)


def _scheduler(registry: Registry, name: str) -> ChosenSpec:
    if ":" in name:
        return chosen("schedulers", "under-test", name)
    if name == "auto":
        return choose(resolve(registry, "schedulers", name, Context()).chosen[0])
    return choose(registry.get(SchedulerSpec, name))


def tokens_of(outputs: Mapping[str, Output], rids: Iterable[str] | None = None) -> dict[str, list[int]]:
    """Request id -> its tokens."""
    return {rid: outputs[rid].token_ids for rid in (rids if rids is not None else outputs)}
