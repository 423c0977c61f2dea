"""The facade that API families call."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hookline.errors import RequestError
from hookline.frontend.engine_state import EngineState
from hookline.frontend.request_builder import RequestBuilder
from hookline.frontend.serving import EngineServing, ServerReports
from hookline.frontend.tokenizer_manager import TokenizerManager
from hookline.messages.transport import LocalChannel
from hookline.messages.wire import SchedulerInput
from hookline.observability.metrics import Metrics
from hookline.text.tokenizer import Tokenizer
from tests.factories.frontend import VOCAB_SIZE
from tests.factories.plans import make_plan


@pytest.fixture
def serving(checkpoint: Path, tokenizer: Tokenizer) -> Iterator[EngineServing]:
    plan = make_plan(checkpoint)
    channel: LocalChannel[SchedulerInput] = LocalChannel()
    manager = TokenizerManager(
        RequestBuilder(plan, tokenizer),
        channel,
        state=EngineState(health_timeout=60.0),
        metrics=Metrics(),
        max_concurrent_requests=4,
    )
    yield EngineServing(plan, manager, tokenizer, ServerReports())
    manager.close()


async def test_text_comes_back_from_its_tokens(serving: EngineServing) -> None:
    assert await serving.detokenize(await serving.tokenize("Grüß Gott")) == "Grüß Gott"


@pytest.mark.parametrize("token", [-1, VOCAB_SIZE, 10**12])
async def test_tokens_beyond_the_vocabulary_are_refused(serving: EngineServing, token: int) -> None:
    with pytest.raises(RequestError, match=f"tokens holds {token}"):
        await serving.detokenize([5, token])
