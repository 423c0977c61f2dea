"""The measurement of constrained throughput, and the vocabulary that it makes up."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]

from hookline.bench.big_vocabulary import save_tokenizer
from hookline.bench.grammar import schema_of
from hookline.text.tokenizer import load_tokenizer
from tests.factories.demo_server import hookline


def test_no_two_schemas_are_the_same() -> None:
    schemas = [schema_of(number) for number in range(50)]
    for schema in schemas:
        jsonschema.Draft202012Validator.check_schema(schema)
    assert len({json.dumps(schema) for schema in schemas}) == 50
    names = [set(schema["properties"]) for schema in schemas]
    assert not set.intersection(names[0], *names[1:])


def test_a_made_up_vocabulary_is_a_tokenizer_of_that_size(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        save_tokenizer(tmp_path / name, 700)
    tokenizer = load_tokenizer(tmp_path / "a")
    assert (tokenizer.vocab_size, tokenizer.eos_token_id, len(tokenizer.special_ids)) == (703, 702, 3)
    text = '{"name": "é 漢", "x": [true, null]}'
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert len(ids) < len(text.encode())
    assert (tmp_path / "a/tokenizer.json").read_bytes() == (tmp_path / "b/tokenizer.json").read_bytes()


def test_it_compares_constrained_with_free() -> None:
    done = hookline("bench", "grammar", "--requests", "2", "--output-len", "8", "--repetitions", "1", "--json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert [row["repetition"] for row in shown["results"]] == ["warm-up", 1]
    assert all(0 < row["output_tokens"] <= 16 for row in shown["results"])
    assert shown["median_ratio"] == shown["results"][1]["ratio"]
