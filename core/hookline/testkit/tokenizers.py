"""Tiny tokenizers of every kind that checkpoints come with, saved as transformers saves them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

CORPUS = [
    "The quick brown fox jumps over the lazy dog. 0123456789",
    'Ein Grüßgott, 漢字, naïve café, emoji 👩‍👩‍👧 and {"json": [1, 2, true]}',
    "To be, or not to be, that is the question: whether 'tis nobler in the mind",
    "def f(x):\n\treturn x  # indented\n\n",
]
MARK = "▁"
SPECIAL = ["<unk>", "<s>", "</s>"]


def byte_level_bpe(directory: Path) -> Path:
    """As Qwen and Llama 3 have it, with special and plain added tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_tokens([AddedToken("<tool>", special=False, normalized=False)])
    return _save(tokenizer, directory, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def sentencepiece_bpe(directory: Path) -> Path:
    """As Llama 2 has it: prefix space, byte fallback, a template that adds the begin token."""
    characters = sorted(set("".join(CORPUS[:1] + CORPUS[2:])) - set(" \n\t"))
    vocab = {token: index for index, token in enumerate(SPECIAL)}
    for token in [*(f"<0x{byte:02X}>" for byte in range(256)), MARK, *characters]:
        vocab[token] = len(vocab)
    merges: list[tuple[str, str]] = []
    for pair in [("t", "h"), ("th", "e"), (MARK, "the"), ("b", "e"), (MARK, "be"), (MARK, "T"), (MARK + "T", "o")]:
        merges.append(pair)
        vocab.setdefault("".join(pair), len(vocab))
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(MARK), normalizers.Replace(" ", MARK)])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(MARK, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", vocab["<s>"])]
    )
    return _save(tokenizer, directory, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def unigram(directory: Path) -> Path:
    """As T5 and Gemma's relatives have it: Unigram with metaspaces."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=120, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return _save(tokenizer, directory, eos_token="</s>", pad_token="<pad>", unk_token="<unk>")


def wordpiece(directory: Path) -> Path:
    """As BERT has it: lower case, ## for continuations, spaces cleaned up."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    ids = {token: tokenizer.token_to_id(token) for token in special}
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])]
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return _save(tokenizer, directory, mask_token="[MASK]", clean_up_tokenization_spaces=True, **names)


KINDS: dict[str, Callable[[Path], Path]] = {
    "byte_level_bpe": byte_level_bpe,
    "sentencepiece_bpe": sentencepiece_bpe,
    "unigram": unigram,
    "wordpiece": wordpiece,
}


def _save(tokenizer: Tokenizer, directory: Path, **settings: object) -> Path:
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **settings)  # type: ignore[no-untyped-call]
    made.save_pretrained(directory)
    return directory
