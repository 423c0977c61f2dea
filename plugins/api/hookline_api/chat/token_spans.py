"""TokenSpans: which tokens a stretch of an answer's text was made of."""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Iterable

from hookline.interfaces.api import Serving


class TokenSpans:
    """Cuts the text of one choice at the ends of its tokens.

    Text may come later than its tokens (a part of a character or of a stop string is withheld), and tokens may
    have no text (special ones that are skipped, the one that ended the output).
    """

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        #: What the text of each token that has not come whole still lacks.
        self._awaited: deque[str] = deque()
        self._is_at_start = True

    def add(self, token_ids: Iterable[int]) -> None:
        """Tokens that were generated next."""
        for token_id in token_ids:
            self._awaited.append(self._decoder.decode(self._serving.token_bytes(token_id)))

    def cut(self, text: str, *, is_last: bool = False) -> list[tuple[str, int]]:
        """(piece, how many tokens end with it) for text that came next; the pieces joined are the text.

        A token without text ends with the piece before it, or with an empty one. ``is_last`` says that no text
        follows, so that all tokens end.
        """
        pieces: list[tuple[str, int]] = []
        position, end = 0, len(text)
        while self._awaited:
            wanted = self._awaited[0]
            if wanted and position == end:
                break
            if self._is_at_start and wanted.startswith(" ") and not text.startswith(" "):
                # Decoders drop the space before the first word.
                wanted = wanted[1:]
            if len(wanted) > end - position and wanted.startswith(text[position:]):
                # A part of the token: the rest comes later, or was cut off.
                self._awaited[0] = wanted[end - position :]
                break
            # What does not match has no text: a special token that was skipped.
            piece = wanted if text.startswith(wanted, position) else ""
            self._awaited.popleft()
            self._is_at_start = self._is_at_start and not piece
            pieces.append((piece, 1))
            position += len(piece)
        if position < end:
            self._is_at_start = False
            pieces.append((text[position:], 0))
        if is_last and self._awaited:
            pieces.append(("", len(self._awaited)))
            self._awaited.clear()
        return pieces
