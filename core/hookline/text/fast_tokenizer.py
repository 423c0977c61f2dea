"""FastTokenizer: a tokenizer.json, run by the tokenizers library alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from hookline.errors import ModelError
from hookline.text.token_bytes import decoder_steps, spelling
from hookline.text.tokenizer import Tokenizer
from hookline.text.tokenizer_files import TokenizerFiles

#: What ``clean_up_tokenization_spaces`` removes, in this order, as transformers defines it.
_CLEAN_UP = (
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
)


class FastTokenizer(Tokenizer):
    """A tokenizer of the tokenizers library, completed from the checkpoint's other files."""

    def __init__(self, backend: Backend, *, special_tokens: Mapping[str, str], clean_up_spaces: bool = False) -> None:
        self.backend = backend
        self.special_tokens = dict(special_tokens)
        self._clean_up_spaces = clean_up_spaces
        added = backend.get_added_tokens_decoder()
        self._added: dict[int, str] = {index: token.content for index, token in added.items()}
        self.special_ids = frozenset(index for index, token in added.items() if token.special)
        self.vocab_size = max(backend.get_vocab_size(with_added_tokens=False), *(index + 1 for index in added), 0)
        steps = decoder_steps(backend)
        self.is_byte_level = [step["type"] for step in steps] == ["ByteLevel"] and not clean_up_spaces
        self._spell = spelling(steps)
        #: Bytes of the tokens seen so far; at most one entry for each token.
        self._text_bytes: dict[int, bytes] = {}

    @classmethod
    def load(cls, directory: Path) -> FastTokenizer:
        """From a directory with tokenizer.json; ``ModelError`` if it does not load."""
        path = directory / "tokenizer.json"
        try:
            backend = Backend.from_file(str(path))
        except Exception as exc:  # the library raises plain Exception
            raise ModelError(f"{path} is not a tokenizer that the tokenizers library reads: {exc}") from exc
        files = TokenizerFiles.read(directory)
        # A file may ask for padded or cut encodings; a prompt must be neither.
        backend.no_padding()
        backend.no_truncation()
        backend.encode_special_tokens = files.split_special_tokens
        _add_missing(backend, files)
        is_bpe = type(backend.model).__name__ == "BPE"
        return cls(
            backend,
            special_tokens={name: token.content for name, token in files.special_tokens.items()},
            # Cleaning up destroys the spaces of a BPE text, so transformers wants it said twice.
            clean_up_spaces=files.clean_up_spaces and (not is_bpe or files.clean_up_spaces_of_bpe),
        )

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        return self.backend.encode(text, add_special_tokens=add_special_tokens).ids

    def decode(
        self,
        ids: Sequence[int],
        *,
        skip_special_tokens: bool = False,
        spaces_between_special_tokens: bool = True,
    ) -> str:
        text = self.backend.decode(ids, skip_special_tokens=skip_special_tokens)
        if self._clean_up_spaces:
            for old, new in _CLEAN_UP:
                text = text.replace(old, new)
        return text

    def token_id(self, token: str) -> int | None:
        return self.backend.token_to_id(token)

    def token_bytes(self, token_id: int) -> bytes:
        added = self._added.get(token_id)
        return self.text_bytes(token_id) if added is None else added.encode()

    def text_bytes(self, token_id: int) -> bytes:
        spelled = self._text_bytes.get(token_id)
        if spelled is None:
            token = self.backend.id_to_token(token_id)
            if token is None:
                return b""
            spelled = self._text_bytes[token_id] = self._spell(token)
        return spelled


def _add_missing(backend: Backend, files: TokenizerFiles) -> None:
    """Add the tokens that only the other files name, in the order of their ids."""
    known = {token.content for token in backend.get_added_tokens_decoder().values()}
    special = [*files.special_tokens.values(), *files.extra_special_tokens]
    special_texts = {token.content for token in special}
    for _, token in sorted(files.added_tokens.items()):
        if token.content not in known:
            if token.content in special_texts:
                token.special = True
            backend.add_tokens([token])
    # Named tokens count as special even where the vocabulary holds them as plain ones.
    missing = [token for token in special if not _is_special(backend, token)]
    if missing:
        backend.add_special_tokens(missing)


def _is_special(backend: Backend, token: AddedToken) -> bool:
    index = backend.token_to_id(token.content)
    if index is None:
        return False
    added = backend.get_added_tokens_decoder().get(index)
    return added is not None and added.special
