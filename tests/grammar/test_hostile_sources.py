"""Sources made to run away or to crash the libraries: each is compiled or refused, in time, and the next one works."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from hookline.errors import RequestError
from hookline.interfaces.grammar import GrammarBackendSpec
from hookline.plugins.plan import PluginPlan
from hookline.plugins.resolve import choose
from hookline.scheduler.grammar_chain import BackendChain, backend_links
from hookline.scheduler.grammar_host import HostSetup
from hookline.scheduler.grammar_makers import HostedMaker
from hookline.testkit.offer_suite import installed
from hookline.testkit.tokenizers import byte_level_bpe
from hookline.text.tokenizer import load_tokenizer

_DEEP = '{"type": "array", "items": '
SOURCES = [
    ("regex", "a{1,100000}"),
    ("regex", "(a{0,1000}){0,1000}"),
    ("regex", "(" * 50_000),
    ("regex", "((a|b|ab)*){1,60}c"),
    ("regex", "\\xff\\ud800"),
    ("json_schema", _DEEP * 5_000 + "{}" + "}" * 5_000),
    ("json_schema", _DEEP * 99 + "{}" + "}" * 99),
    ("json_schema", json.dumps({"enum": [f"value {number}" for number in range(20_000)]})),
    ("json_schema", '{"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}'),
    ("json_schema", json.dumps({"type": "string", "pattern": "^(a{0,999}){0,999}$"})),
    ("json_schema", '{"const": "\\ud800"}'),
    ("json_schema", json.dumps({"type": "array", "items": {"type": "array", "maxItems": 9999}, "maxItems": 9999})),
    ("ebnf", "root ::= root root | root"),
    ("ebnf", "root ::= " + "(" * 20_000),
    ("ebnf", 'root ::= "a" root{1,100000}'),
    ("choice", json.dumps([f"choice {number}" for number in range(20_000)])),
    ("structural_tag", '{"structures": [], "triggers": [""]}'),
]  # fmt: skip


@pytest.fixture(scope="module")
def maker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostedMaker]:
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


@pytest.mark.parametrize(("kind", "source"), SOURCES, ids=[f"{kind}-{source[:12]!a}" for kind, source in SOURCES])
def test_a_hostile_source_is_compiled_or_refused(maker: HostedMaker, kind: str, source: str) -> None:
    host, refusal = maker.host_pid, None
    try:
        maker.make(kind, source, lambda _: None)
    except RequestError as error:
        refusal = error
    assert refusal is None or (refusal.status_code == 400 and len(str(refusal)) < 2000)
    assert maker.make("regex", "ab", lambda _: None).matcher() is not None
    assert maker.host_pid == host, "the host has lived through it"
