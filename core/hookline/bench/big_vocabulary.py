"""A tokenizer of a published model's size, made up: byte-level BPE whose merges are drawn at random."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

#: Merged first, so that JSON is written in the tokens that large vocabularies have for it.
_JSON_PIECES = ('{"', '":', '",', '"}', '["', '"]', "},", '":"', '","', "true", "false", "null")
#: The longest token, in characters.
_MAX_LENGTH = 12
_ENDS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def save_tokenizer(directory: Path, num_plain: int, *, seed: int = 0) -> None:
    """Write tokenizer.json and tokenizer_config.json: ``num_plain`` tokens, 256 of them bytes, then three special
    ones, of which the last ends the output."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocab, merges = _merged(sorted(pre_tokenizers.ByteLevel.alphabet()), num_plain, Random(seed))
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(_ENDS))
    tokenizer.save(str(directory / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": _ENDS[-1]}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))


def _merged(alphabet: list[str], num_plain: int, random: Random) -> tuple[dict[str, int], list[tuple[str, str]]]:
    vocab = {character: index for index, character in enumerate(alphabet)}
    merges: list[tuple[str, str]] = []

    def merge(left: str, right: str) -> None:
        if left + right not in vocab and len(vocab) < num_plain:
            vocab[left + right] = len(vocab)
            merges.append((left, right))

    for piece in _JSON_PIECES:
        for end in range(2, len(piece) + 1):
            merge(piece[: end - 1], piece[end - 1])
    letters = [character for character in alphabet if character.isascii() and character.isalpha()]
    parts = [*letters, *letters, *alphabet, "Ġ", "Ġ", "Ġ"]
    while len(vocab) < num_plain:
        left, right = random.choice(parts), random.choice(parts)
        if len(left + right) <= _MAX_LENGTH and left + right not in vocab:
            merge(left, right)
            parts.append(left + right)
    return vocab, merges
