"""GrammarWalker: what a model might sample under a mask, where there is no model."""

from __future__ import annotations

from random import Random

import numpy as np
import numpy.typing as npt

from hookline.text.tokenizer import Tokenizer

#: How often a quote is taken where one may stand: names and texts end after a few tokens, as they do in documents.
_QUOTE_SHARE = 0.15


class GrammarWalker:
    """Draws allowed tokens at random, the same ones in every run."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int) -> None:
        self._random = Random(0)
        quotes = [index for index in range(vocab_size) if tokenizer.token_bytes(index)[:1] == b'"']
        self._quotes_W = np.zeros(-(-vocab_size // 32), dtype=np.int32)
        for index in quotes:
            self._quotes_W[index // 32] |= np.uint32(1 << index % 32).view(np.int32)

    def pick(self, mask_W: npt.NDArray[np.int32]) -> int:
        """An allowed token; 0 where there is none."""
        if self._random.random() < _QUOTE_SHARE and (quotes_W := mask_W & self._quotes_W).any():
            mask_W = quotes_W
        ids = np.flatnonzero(np.unpackbits(mask_W.view(np.uint8), bitorder="little"))
        return int(ids[self._random.randrange(len(ids))]) if len(ids) else 0
