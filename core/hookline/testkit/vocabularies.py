"""Vocabularies made in memory: small tokenizers without files, transformers or torch."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from hookline.text.fast_tokenizer import FastTokenizer
from hookline.text.incremental import incremental_detokenizer
from hookline.text.tokenizer import Tokenizer

#: English, signs of JSON and characters of two to four bytes.
TEXTS = (
    "The quick brown fox jumps over the lazy dog. 0123456789",
    'Ein Grüßgott, 漢字, naïve café, emoji 👩‍👩‍👧 and {"json": [1, 2, true, null]}',
    "To be, or not to be, that is the question: whether 'tis nobler in the mind",
    'def f(x):\n\treturn x  # indented\n\n{"name": "f", "arguments": {}}',
)
BEGIN, END, TURN = "<|endoftext|>", "<|im_end|>", "<|im_start|>"
_SPACE = "▁"


def byte_level(
    texts: Sequence[str] = TEXTS, *, size: int = 400, added: Sequence[str] = (), special: Sequence[str] = ()
) -> Tokenizer:
    """As Qwen and Llama 3 have it: a token is any run of bytes, also a part of a character.

    Merges are learned from ``texts``; ``added`` become whole tokens that are not special, ``special`` such that are.
    """
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[BEGIN, TURN, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    backend.add_tokens([AddedToken(text, special=False, normalized=False) for text in added])
    backend.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in special])
    return FastTokenizer(backend, special_tokens={"eos_token": END, "pad_token": BEGIN})


def pieces_with_fallback(texts: Sequence[str] = TEXTS) -> Tokenizer:
    """As Llama 2 has it: characters and a few words, bytes for all other characters, a space before the text."""
    characters = sorted({character for text in texts for character in text if character.isascii()} - set(" \n\t"))
    vocab = {token: index for index, token in enumerate(["<unk>", "<s>", "</s>"])}
    for token in [*(f"<0x{byte:02X}>" for byte in range(256)), _SPACE, *characters]:
        vocab[token] = len(vocab)
    merges = [("t", "h"), ("th", "e"), (_SPACE, "the"), ("b", "e"), (_SPACE, "be"), ('"', ":"), ("{", '"')]
    for pair in merges:
        vocab.setdefault("".join(pair), len(vocab))
    backend = Backend(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend(_SPACE), normalizers.Replace(" ", _SPACE)])
    backend.decoder = decoders.Sequence(
        [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.add_special_tokens(["<unk>", "<s>", "</s>"])
    return FastTokenizer(backend, special_tokens={"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"})


def token_pieces(tokenizer: Tokenizer, text: str) -> list[str]:
    """A text in the pieces in which an engine streams it: one for each token, never half a character."""
    detokenizer = incremental_detokenizer(tokenizer, skip_special_tokens=False)
    pieces = [detokenizer.push(token_id) for token_id in tokenizer.encode(text, add_special_tokens=False)]
    pieces.append(detokenizer.flush())
    return pieces
