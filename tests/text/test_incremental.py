"""Incremental detokenizing: joined pieces are the text, whatever the tokens are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hookline.testkit.tokenizers import KINDS
from hookline.text.incremental import incremental_detokenizer
from hookline.text.tokenizer import Tokenizer, load_tokenizer

#: Characters of 1 to 4 bytes, joined emoji, combining marks, and the replacement character itself.
ODD_TEXT = st.lists(
    st.sampled_from(
        ["a", " ", "é", "ß", "漢", "字", "😀", "👩‍👩‍👧", "🏳️‍🌈", "e\u0301", "\ufffd", "\n", "the", ". ", "'s "]
    )
    | st.characters(codec="utf-8", exclude_categories=["Cs"]),
    max_size=12,
).map("".join)


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    return {kind: load_tokenizer(make(Path(tmp_path_factory.mktemp(kind)))) for kind, make in KINDS.items()}


def pieces(tokenizer: Tokenizer, ids: list[int], prompt_tail: list[int] | None = None, *, skip: bool) -> list[str]:
    detokenizer = incremental_detokenizer(tokenizer, prompt_tail or [], skip_special_tokens=skip)
    return [*(detokenizer.push(token_id) for token_id in ids), detokenizer.flush()]


@pytest.mark.parametrize("kind", ["byte_level_bpe", "sentencepiece_bpe", "unigram"])
@given(text=ODD_TEXT, skip=st.booleans())
@settings(deadline=None)
def test_joined_pieces_are_the_decoded_text(tokenizers: dict[str, Tokenizer], kind: str, text: str, skip: bool) -> None:
    tokenizer = tokenizers[kind]
    ids = tokenizer.encode(text)
    assert "".join(pieces(tokenizer, ids, skip=skip)) == tokenizer.decode(ids, skip_special_tokens=skip)


@given(data=st.data(), skip=st.booleans())
@settings(deadline=None)
def test_any_byte_level_tokens_give_the_decoded_text(
    tokenizers: dict[str, Tokenizer], data: st.DataObject, skip: bool
) -> None:
    tokenizer = tokenizers["byte_level_bpe"]
    # Single bytes are the first tokens after the special ones; most sequences are not UTF-8.
    ids = data.draw(st.lists(st.integers(0, 258) | st.integers(0, tokenizer.vocab_size + 3), max_size=20))
    assert "".join(pieces(tokenizer, ids, skip=skip)) == tokenizer.decode(ids, skip_special_tokens=skip)


@pytest.mark.parametrize("kind", ["byte_level_bpe", "sentencepiece_bpe", "unigram"])
@given(prompt=ODD_TEXT, text=ODD_TEXT)
@settings(deadline=None)
def test_output_continues_the_text_of_the_prompt(
    tokenizers: dict[str, Tokenizer], kind: str, prompt: str, text: str
) -> None:
    tokenizer = tokenizers[kind]
    before = tokenizer.encode("x" + prompt, add_special_tokens=False)
    ids = tokenizer.encode(text, add_special_tokens=False)
    joined = "".join(pieces(tokenizer, ids, before, skip=False))
    assert tokenizer.decode(before) + joined == tokenizer.decode(before + ids)


def single_bytes(tokenizer: Tokenizer, data: bytes) -> list[int]:
    """A token for each byte; letters rather than byte fallbacks, which have the smaller ids."""
    token_of = {tokenizer.token_bytes(index): index for index in range(tokenizer.vocab_size)}
    return [token_of[bytes([byte])] for byte in data]


@pytest.mark.parametrize("kind", ["byte_level_bpe", "sentencepiece_bpe"])
@pytest.mark.parametrize("character", ["é", "漢", "😀"])
def test_no_piece_is_half_a_character(tokenizers: dict[str, Tokenizer], kind: str, character: str) -> None:
    ids = single_bytes(tokenizers[kind], ("a" + character + "b").encode())
    held = [""] * (len(character.encode()) - 1)
    assert pieces(tokenizers[kind], ids, skip=True) == ["a", *held, character, "b", ""]


@pytest.mark.parametrize("kind", ["byte_level_bpe", "sentencepiece_bpe"])
def test_a_joined_emoji_arrives_whole_characters_at_a_time(tokenizers: dict[str, Tokenizer], kind: str) -> None:
    family = "👩‍👩‍👧"
    ids = single_bytes(tokenizers[kind], family.encode())
    assert [piece for piece in pieces(tokenizers[kind], ids, skip=True) if piece] == list(family)


@pytest.mark.parametrize("kind", ["byte_level_bpe", "sentencepiece_bpe"])
def test_a_character_that_never_ends_is_shown_at_the_end(tokenizers: dict[str, Tokenizer], kind: str) -> None:
    given_pieces = pieces(tokenizers[kind], single_bytes(tokenizers[kind], b"\xf0\x9f"), skip=True)
    assert given_pieces[:2] == ["", ""]
    assert set(given_pieces[2]) == {"\ufffd"}


@pytest.mark.parametrize("kind", ["byte_level_bpe", "sentencepiece_bpe"])
def test_bytes_that_are_no_text_are_not_held_for_ever(tokenizers: dict[str, Tokenizer], kind: str) -> None:
    given_pieces = pieces(tokenizers[kind], single_bytes(tokenizers[kind], b"\xff" * 40), skip=True)
    assert "".join(given_pieces) == "\ufffd" * 40
    assert max(map(len, given_pieces)) <= 8


@pytest.mark.parametrize("kind", ["byte_level_bpe", "sentencepiece_bpe"])
@pytest.mark.parametrize(("cut", "expected"), [(1, "éa"), (2, "a")])
def test_a_character_may_begin_in_the_prompt(
    tokenizers: dict[str, Tokenizer], kind: str, cut: int, expected: str
) -> None:
    ids = single_bytes(tokenizers[kind], "aéa".encode())
    assert "".join(pieces(tokenizers[kind], ids[1 + cut :], ids[: 1 + cut], skip=True)) == expected


@pytest.mark.parametrize("kind", ["byte_level_bpe", "sentencepiece_bpe"])
def test_a_character_that_the_prompt_never_ends_adds_nothing(tokenizers: dict[str, Tokenizer], kind: str) -> None:
    prompt = single_bytes(tokenizers[kind], b"a\xc3")
    assert "".join(pieces(tokenizers[kind], prompt[:1], prompt, skip=True)) == "a"
    assert "".join(pieces(tokenizers[kind], [], prompt, skip=True)) == ""


def test_special_tokens_are_shown_or_skipped(tokenizers: dict[str, Tokenizer]) -> None:
    tokenizer = tokenizers["byte_level_bpe"]
    ids = tokenizer.encode("a<|im_end|>b<tool>c")
    assert "".join(pieces(tokenizer, ids, skip=True)) == "ab<tool>c"
    assert "".join(pieces(tokenizer, ids, skip=False)) == "a<|im_end|>b<tool>c"


def test_the_space_of_a_sentencepiece_word_is_kept(tokenizers: dict[str, Tokenizer]) -> None:
    tokenizer = tokenizers["sentencepiece_bpe"]
    the = tokenizer.token_id("▁the")
    assert the is not None
    assert pieces(tokenizer, [the, the], skip=True) == ["the", " the", ""]
    assert pieces(tokenizer, [the, the], [the], skip=True) == [" the", " the", ""]


def test_cleaned_up_text_is_never_taken_back(tokenizers: dict[str, Tokenizer]) -> None:
    tokenizer = tokenizers["wordpiece"]
    ids = tokenizer.encode("the fox's dog, lazy. do n't", add_special_tokens=False)
    joined = "".join(pieces(tokenizer, ids, skip=True))
    assert joined.replace(" ", "") == tokenizer.decode(ids).replace(" ", "")


def test_tokenizers_in_python_give_whole_characters(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "ByT5Tokenizer", "extra_ids": 0}))
    tokenizer = load_tokenizer(tmp_path)
    assert not tokenizer.knows_bytes
    ids = tokenizer.encode("aé漢😀", add_special_tokens=False)
    given_pieces = pieces(tokenizer, ids, skip=True)
    assert [piece for piece in given_pieces if piece] == ["a", "é", "漢", "😀"]


def test_half_characters_are_held_when_only_the_text_shows_them() -> None:
    given_pieces = pieces(_TextOnly(), [0xC3, 0xA9, 0x61, *[0xFF] * 6, 0x62], skip=True)
    assert given_pieces == ["", "é", "a", "", "", "", "\ufffd" * 4, "", "", "\ufffd" * 2 + "b", ""]


class _TextOnly(Tokenizer):
    """Knows how to decode bytes, but not the bytes of a single token."""

    knows_bytes = False
    special_ids = frozenset()
    vocab_size = 256

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        return list(text.encode())

    def decode(
        self, ids: Sequence[int], *, skip_special_tokens: bool = False, spaces_between_special_tokens: bool = True
    ) -> str:
        return bytes(ids).decode(errors="replace")

    def token_id(self, token: str) -> int | None:
        return ord(token)

    def token_bytes(self, token_id: int) -> bytes:
        return chr(token_id).encode() if token_id < 128 else "\ufffd".encode()
