"""The facade that API families see."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from hookline.errors import NotServedError, PluginError, RequestError
from hookline.frontend.engine_state import EngineState
from hookline.frontend.request_builder import RequestBuilder
from hookline.frontend.serving import EngineServing, ServerReports
from hookline.frontend.tokenizer_manager import TokenizerManager
from hookline.interfaces.api import GenerateRequest, Serving
from hookline.messages.control import ControlReply
from hookline.messages.outputs import BatchTextOutput, FinishReason, RequestStats
from hookline.messages.requests import TokenizedRequest
from hookline.observability.metrics import Metrics
from hookline.plugins.plan import ChosenSpec
from hookline.sampling_params import SamplingParams
from hookline.testkit.plans import chosen, make_plan
from hookline.text.tokenizer import Tokenizer

_PARSERS = [
    chosen("reasoning_parsers", "pipe", "tests.factories.frontend_plugins:PipeReasoningParser"),
    chosen("function_call_parsers", "at", "tests.factories.frontend_plugins:AtCallParser"),
]


class Echo:
    """Answers at once: requests with their prompt, control requests with what ``reply`` says."""

    def __init__(self) -> None:
        self.manager: TokenizerManager | None = None
        self.ok = True

    def send(self, message: Any) -> None:
        asyncio.get_running_loop().call_soon(self._answer, message)

    def _answer(self, message: Any) -> None:
        assert self.manager is not None
        if isinstance(message, TokenizedRequest):
            self.manager.handle(
                BatchTextOutput(
                    rids=[message.rid],
                    texts=["x"],
                    token_ids=[message.input_ids],
                    finish_reasons=[FinishReason(type="stop")],
                    stats=[RequestStats(1, 0, 1)],
                )
            )
        else:
            self.manager.handle(ControlReply(id=message.id, ok=self.ok, message="said", data=message.arguments))


def _serving(
    checkpoint: Path, tokenizer: Tokenizer | None, plugins: list[ChosenSpec] | None = None, **model: Any
) -> tuple[EngineServing, Echo]:
    echo = Echo()
    plan = make_plan(checkpoint, plugins=_PARSERS if plugins is None else plugins, config={"model": model})
    state = EngineState(health_timeout=60.0)
    state.ready()
    echo.manager = TokenizerManager(
        RequestBuilder(plan, tokenizer), echo, state=state, metrics=Metrics(), max_concurrent_requests=10
    )
    reports = ServerReports(info={"version": "1"}, plugins={"plugins": []})
    return EngineServing(plan, echo.manager, tokenizer, reports), echo


@pytest.fixture
def serving(checkpoint: Path, tokenizer: Tokenizer) -> EngineServing:
    return _serving(checkpoint, tokenizer)[0]


def test_facade_is_what_families_are_promised(serving: EngineServing) -> None:
    promised: Serving = serving
    assert promised.config.server.port == 8000


async def test_generate_and_chat(serving: EngineServing) -> None:
    rendered = await serving.render_chat([{"role": "user", "content": "to be"}])
    request = GenerateRequest(input_ids=rendered.input_ids, sampling_params=SamplingParams())
    chunks = [chunk async for chunk in serving.generate(request)]
    assert [chunk.token_ids for chunk in chunks] == [rendered.input_ids]


async def test_long_texts_are_handled_like_short_ones(serving: EngineServing, tokenizer: Tokenizer) -> None:
    text = "to be or not " * 1000
    ids = await serving.tokenize(text)
    assert ids == tokenizer.encode(text)
    assert await serving.detokenize(ids) == text
    rendered = await serving.render_chat([{"role": "user", "content": text}])
    assert rendered.prompt.startswith(f"<|im_start|>user\n{text}")


def test_single_tokens(serving: EngineServing, tokenizer: Tokenizer) -> None:
    texts = [(serving.token_text(token), serving.token_bytes(token)) for token in tokenizer.encode("ö b")]
    assert "".join(text for text, _ in texts).endswith(" b")
    assert b"".join(data for _, data in texts) == "ö b".encode()


async def test_output_parser_is_composed(serving: EngineServing) -> None:
    rendered = await serving.render_chat([{"role": "user", "content": "a"}])
    parser = serving.output_parser(rendered, tools=[{"type": "function", "function": {"name": "f"}}])
    parts = [parser.feed("why|yes @f;"), parser.finish()]
    assert "".join(first.reasoning for first, _ in parts) == "why"
    assert "".join(second.content for _, second in parts) == "yes "
    assert [call.name for _, second in parts for call in second.calls] == ["f"]


@pytest.mark.parametrize("are_special", [False, True])
async def test_answers_keep_the_tokens_that_reasoning_is_marked_with(
    checkpoint: Path, tokenizer: Tokenizer, are_special: bool
) -> None:
    target = "tests.factories.frontend_plugins:PipeReasoningParser"
    parser = chosen("reasoning_parsers", "pipe", target, details={"special_markers": are_special})
    rendered = await _serving(checkpoint, tokenizer, [parser])[0].render_chat([{"role": "user", "content": "a"}])
    assert rendered.keeps_special_tokens is are_special


def test_parser_that_does_not_load_stops_the_start(checkpoint: Path, tokenizer: Tokenizer) -> None:
    with pytest.raises(PluginError, match="'gone'"):
        _serving(checkpoint, tokenizer, [chosen("reasoning_parsers", "gone", "no.such.module:X")])


async def test_loaded_adapters_are_served(serving: EngineServing) -> None:
    with pytest.raises(NotServedError):
        serving.check_model("poet")
    answer = await serving.control("load_adapter", name="poet", path="/poet")
    assert answer == {"message": "said", "name": "poet", "path": "/poet"}
    serving.check_model("poet")
    assert [card.id for card in serving.models()] == ["tiny", "poet"]
    await serving.control("unload_adapter", name="poet")
    assert [card.id for card in serving.models()] == ["tiny"]


async def test_adapter_that_was_not_loaded_is_not_served(checkpoint: Path, tokenizer: Tokenizer) -> None:
    serving, echo = _serving(checkpoint, tokenizer)
    echo.ok = False
    with pytest.raises(RequestError, match="said"):
        await serving.control("load_adapter", name="poet", path="/poet")
    assert [card.id for card in serving.models()] == ["tiny"]


async def test_server_without_tokenizer_says_so(checkpoint: Path) -> None:
    serving, _ = _serving(checkpoint, None, skip_tokenizer_init=True)
    for call in (serving.tokenize("a"), serving.detokenize([1]), serving.render_chat([{"role": "user"}])):
        with pytest.raises(RequestError, match="skip_tokenizer_init"):
            await call


async def test_reports(serving: EngineServing) -> None:
    info = serving.server_info()
    assert (info["version"], info["ready"], info["requests_in_flight"], info["scheduler"]) == ("1", True, 0, {})
    assert serving.plugin_report() == {"plugins": []}
    assert serving.readiness() == (True, "ready")
    assert serving.health() == (True, "healthy")
    body, content_type = serving.metrics()
    assert b"hookline_requests_in_flight 0.0" in body
    assert content_type.startswith("text/plain")
    assert await serving.abort("nobody") == 0
