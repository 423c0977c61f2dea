"""Tokenizers against transformers, on tiny checkpoints of every kind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer as Backend
from transformers import AutoTokenizer

from hookline.errors import ModelError
from hookline.testkit.tokenizers import KINDS, byte_level_bpe, sentencepiece_bpe, unigram, wordpiece
from hookline.text.fast_tokenizer import FastTokenizer
from hookline.text.tokenizer import Tokenizer, load_tokenizer
from hookline.text.transformers_tokenizer import TransformersTokenizer

TEXTS = [
    "Hello world",
    "To be, or not to be. That's the question!",
    " leading and trailing ",
    "漢字 👩‍👩‍👧 naïve",
    "a\n\tb  c",
    "do n't",
    "<s>hi</s> [SEP] x",
    "<|im_end|>x<tool>y <|im_start|>",
    "",
]


@pytest.fixture(scope="module", params=list(KINDS))
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return KINDS[request.param](tmp_path_factory.mktemp(request.param))


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def assert_like_transformers(directory: Path, texts: list[str] = TEXTS) -> Tokenizer:
    ours, theirs = load_tokenizer(directory), AutoTokenizer.from_pretrained(str(directory))
    for text in texts:
        for add_special in (True, False):
            ids = theirs.encode(text, add_special_tokens=add_special)
            assert ours.encode(text, add_special_tokens=add_special) == ids
            for skip in (True, False):
                assert ours.decode(ids, skip_special_tokens=skip) == theirs.decode(ids, skip_special_tokens=skip)
    assert ours.special_tokens == theirs.special_tokens_map
    assert ours.eos_token_id == theirs.eos_token_id
    assert ours.vocab_size == max(theirs.get_vocab().values()) + 1
    assert set(theirs.all_special_ids) <= ours.special_ids
    return ours


def test_answers_equal_those_of_transformers(checkpoint: Path) -> None:
    ours = assert_like_transformers(checkpoint)
    for token, index in AutoTokenizer.from_pretrained(str(checkpoint)).get_vocab().items():
        assert ours.token_id(token) == index


def test_added_tokens_of_the_config_are_added(tmp_path: Path) -> None:
    directory = byte_level_bpe(tmp_path)
    size = load_tokenizer(directory).vocab_size
    flags = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": False}
    edit_json(
        directory / "tokenizer_config.json",
        added_tokens_decoder={
            str(size): {"content": "<late>", "special": False, **flags},
            str(size + 1): {"content": "<think>", "special": True, **flags},
        },
        extra_special_tokens=["<extra>"],
        image_token="<image>",
    )
    ours = assert_like_transformers(directory, ["a<late>b", "<think>x<extra>", "<image>"])
    assert ours.token_id("<late>") == size
    assert ours.token_id("<late>") not in ours.special_ids
    assert {ours.token_id("<think>"), ours.token_id("<extra>"), ours.token_id("<image>")} <= ours.special_ids


def test_special_tokens_map_counts_without_added_tokens(tmp_path: Path) -> None:
    directory = unigram(tmp_path)
    (directory / "special_tokens_map.json").write_text(
        json.dumps({"eos_token": {"content": "<end>", "lstrip": False, "rstrip": False, "normalized": False}})
    )
    ours = assert_like_transformers(directory, ["a<end>b"])
    assert ours.special_tokens["eos_token"] == "<end>"


def test_named_tokens_of_the_plain_vocabulary_are_special(tmp_path: Path) -> None:
    directory = byte_level_bpe(tmp_path)
    edit_json(directory / "tokenizer_config.json", eos_token="the")
    ours = assert_like_transformers(directory, ["to the end"])
    assert ours.eos_token_id in ours.special_ids


def test_padding_and_truncation_of_the_file_are_ignored(tmp_path: Path) -> None:
    directory = wordpiece(tmp_path)
    backend = Backend.from_file(str(directory / "tokenizer.json"))
    backend.enable_padding(length=32)
    backend.enable_truncation(4)
    backend.save(str(directory / "tokenizer.json"))
    text = "the quick brown fox jumps over the lazy dog"
    ids = load_tokenizer(directory).encode(text)
    assert 8 < len(ids) < 32
    assert_like_transformers(directory, [text])


def test_cleaning_up_is_left_out_for_bpe(tmp_path: Path) -> None:
    directory = byte_level_bpe(tmp_path)
    edit_json(directory / "tokenizer_config.json", clean_up_tokenization_spaces=True)
    ours = assert_like_transformers(directory, ["a . b"])
    assert ours.is_byte_level
    edit_json(
        directory / "tokenizer_config.json",
        clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output=True,
    )
    assert not assert_like_transformers(directory, ["a . b"]).is_byte_level


def test_split_special_tokens_is_honoured(tmp_path: Path) -> None:
    directory = byte_level_bpe(tmp_path)
    edit_json(directory / "tokenizer_config.json", split_special_tokens=True)
    assert_like_transformers(directory, ["x<|im_end|>y"])


# --- bytes of tokens ---


@pytest.mark.parametrize("text", ["Grüß", "漢 👩‍👩‍👧\n\t x", "naïve  café"])
def test_bytes_of_the_tokens_joined_are_the_text(checkpoint: Path, text: str) -> None:
    tokenizer = load_tokenizer(checkpoint)
    ids = tokenizer.encode(text, add_special_tokens=False)
    joined = b"".join(tokenizer.token_bytes(index) for index in ids).decode()
    if checkpoint.name.startswith(("byte_level", "sentencepiece")):
        assert joined.removeprefix(" ") == text.removeprefix(" ")
    else:
        # Normalizers of the other kinds change the text itself.
        assert joined.split() == tokenizer.decode(ids).split()


def test_byte_level_tokens_spell_every_byte(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(byte_level_bpe(tmp_path))
    spelled = {tokenizer.token_bytes(index) for index in range(tokenizer.vocab_size)}
    assert {bytes([byte]) for byte in range(256)} <= spelled


def test_added_tokens_spell_themselves(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(byte_level_bpe(tmp_path))
    for token in ("<|im_end|>", "<tool>"):
        index = tokenizer.token_id(token)
        assert index is not None
        assert tokenizer.token_bytes(index) == token.encode()
        assert tokenizer.token_text(index) == token


def test_byte_fallback_tokens_are_single_bytes(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(sentencepiece_bpe(tmp_path))
    index = tokenizer.token_id("<0xE6>")
    assert index is not None
    assert tokenizer.token_bytes(index) == b"\xe6"
    assert tokenizer.token_text(index) == "\ufffd"
    mark = tokenizer.token_id("▁the")
    assert mark is not None
    assert tokenizer.token_text(mark) == " the"


def test_ids_without_a_token_are_nothing(checkpoint: Path) -> None:
    tokenizer = load_tokenizer(checkpoint)
    for index in (tokenizer.vocab_size, 10**6):
        assert tokenizer.token_bytes(index) == b""
        assert tokenizer.decode([index]) == ""
    assert tokenizer.token_id("no such token") is None


# --- other files, and broken ones ---


def test_vocabulary_and_merges_load_through_transformers(tmp_path: Path) -> None:
    source = tmp_path / "source"
    whole = load_tokenizer(byte_level_bpe(source))
    assert isinstance(whole, FastTokenizer)
    directory = tmp_path / "files"
    directory.mkdir()
    whole.backend.model.save(str(directory))
    (directory / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    (directory / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "GPT2Tokenizer", "eos_token": "<|im_end|>", "padding_side": "left"})
    )
    ours = load_tokenizer(directory)
    assert isinstance(ours, FastTokenizer)
    assert ours.eos_token_id == whole.eos_token_id
    text = "The lazy dog, 漢字"
    assert ours.encode(text) == AutoTokenizer.from_pretrained(str(directory)).encode(text)
    assert ours.decode(ours.encode(text)) == text


def test_tokenizers_in_python_work_too(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "ByT5Tokenizer", "extra_ids": 0}))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5"}))
    ours, theirs = load_tokenizer(tmp_path), AutoTokenizer.from_pretrained(str(tmp_path))
    assert isinstance(ours, TransformersTokenizer)
    for text in TEXTS:
        ids = theirs.encode(text)
        assert ours.encode(text) == ids
        assert ours.decode(ids, skip_special_tokens=True) == theirs.decode(ids, skip_special_tokens=True)
        assert ours.decode([*ids, 99999]) == theirs.decode(ids)
    assert ours.eos_token_id == theirs.eos_token_id
    letter = ours.token_id("a")
    assert letter is not None
    assert (ours.token_bytes(letter), ours.token_bytes(99999)) == (b"a", b"")
    assert ours.eos_token_id is not None
    assert ours.token_bytes(ours.eos_token_id) == b"</s>"
    assert ours.vocab_size == max(theirs.get_vocab().values()) + 1


def test_a_missing_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a directory"):
        load_tokenizer(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"there is no tokenizer\.json.*found: config\.json.*skip_tokenizer_init"):
        load_tokenizer(tmp_path)


def test_corrupt_files_are_named(tmp_path: Path) -> None:
    directory = byte_level_bpe(tmp_path)
    whole = (directory / "tokenizer_config.json").read_text()
    (directory / "tokenizer_config.json").write_text(whole[:-5])
    with pytest.raises(ModelError, match=r"tokenizer_config\.json cannot be read as JSON"):
        load_tokenizer(directory)
    (directory / "tokenizer_config.json").write_text("[1]")
    with pytest.raises(ModelError, match="must hold a JSON object, not list"):
        load_tokenizer(directory)
    (directory / "tokenizer_config.json").write_text('{"eos_token": {"text": 1}}')
    with pytest.raises(ModelError, match=r"special token .* must be a string or an object"):
        load_tokenizer(directory)
    (directory / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match=r"tokenizer\.json is not a tokenizer"):
        load_tokenizer(directory)


def test_loading_imports_neither_torch_nor_transformers(tmp_path: Path) -> None:
    directory = byte_level_bpe(tmp_path)
    program = (
        "import sys\nfrom hookline.text.tokenizer import load_tokenizer\n"
        f"load_tokenizer({str(directory)!r}).encode('hello')\n"
        "print(*({'torch', 'transformers'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr, done.stdout.strip()) == (0, "", "")
