"""SpecialTokens: the special tokens that a grammar may name, by the text that stands for each."""

from __future__ import annotations

import re
from collections.abc import Callable

from hookline.errors import RequestError
from hookline.interfaces.grammar import GrammarEnv

#: Strings, classes, comments, then what is looked for: a token that is named by its text.
_NAMED = re.compile(
    r'"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]|#[^\n]*|\bToken\(\s*(?P<text>"(?:\\.|[^"\\])*")\s*\)', re.DOTALL
)
_ESCAPE = re.compile(r'\\(["\\])')


class SpecialTokens:
    """The special tokens of a vocabulary but for those that end the output, which stand in no grammar."""

    def __init__(self, env: GrammarEnv) -> None:
        ends = set(env.end_token_ids)
        named = {
            index: env.tokenizer.token_text(index)
            for index in sorted(env.tokenizer.special_ids - ends)
            if index < env.vocab_size
        }
        #: Text -> id.
        self.ids: dict[str, int] = {text: index for index, text in named.items() if text}
        self._vocab_size = env.vocab_size
        self._ends = ends
        self._token_id = env.tokenizer.token_id
        longest_first = sorted(self.ids, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def split(self, text: str) -> list[str | int]:
        """A text in pieces: special tokens that are written in it as their ids, what stands between as text."""
        if self._pattern is None:
            return [text] if text else []
        parts: list[str | int] = []
        end = 0
        for match in self._pattern.finditer(text):
            parts += [text[end : match.start()], self.ids[match[0]]]
            end = match.end()
        parts.append(text[end:])
        return [part for part in parts if part != ""]

    def resolve(self, token: object, param: str) -> int:
        """The id of a token that a grammar names by id or by text; ``RequestError`` if there is none."""
        index = token
        if isinstance(token, str):
            index = self.ids.get(token, self._token_id(token))
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < self._vocab_size:
            raise RequestError(f"{param}: the vocabulary has no token {token!r:.80}", param=param)
        if index in self._ends:
            raise RequestError(
                f"{param}: the token {token!r:.80} ends the output, so it cannot stand in a grammar; leave it out",
                param=param,
            )
        return index

    def name_in_ebnf(self, source: str, write: Callable[[int], str]) -> str:
        """An EBNF source in which each ``Token("text")`` is replaced by what ``write`` gives for its id."""

        def replaced(match: re.Match[str]) -> str:
            text = match["text"]
            return match[0] if text is None else write(self.resolve(_ESCAPE.sub(r"\1", text[1:-1]), "ebnf"))

        return _NAMED.sub(replaced, source)
