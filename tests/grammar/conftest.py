"""What tests of hostile grammars share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hookline.interfaces.grammar import GrammarBackendSpec
from hookline.plugins.plan import PluginPlan
from hookline.plugins.resolve import choose
from hookline.scheduler.grammar_chain import BackendChain, backend_links
from hookline.scheduler.grammar_host import HostSetup
from hookline.scheduler.grammar_makers import HostedMaker
from hookline.testkit.offer_suite import installed
from hookline.testkit.tokenizers import byte_level_bpe
from hookline.text.tokenizer import load_tokenizer


@pytest.fixture(scope="module")
def maker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostedMaker]:
    """All installed backends, in killable processes with little time and memory."""
    path = byte_level_bpe(Path(tmp_path_factory.mktemp("tokenizer")))
    specs = [choose(offer) for offer in installed().offers(GrammarBackendSpec)]
    plan = PluginPlan(chosen=specs, source_paths=installed().source_paths)
    tokenizer = load_tokenizer(path)
    size, ends = tokenizer.vocab_size, (tokenizer.eos_token_id or 0,)
    setup = HostSetup(
        plugins=plan, tokenizer_path=str(path), vocab_size=size, end_token_ids=ends, timeout=1.5, max_bytes=1 << 28
    )
    maker = HostedMaker(BackendChain(backend_links(plan, specs, lambda: tokenizer, size, ends)), setup)
    maker.prepare()
    yield maker
    maker.close()
