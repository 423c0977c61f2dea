"""ChunkedBody: takes HTTP's chunks apart, however the pieces of a connection are cut."""

from __future__ import annotations


class ChunkedBody:
    """Gives the body of an answer with ``transfer-encoding: chunked``."""

    def __init__(self) -> None:
        self._rest = b""
        #: Bytes of the current chunk still to come, the line end after it included; 0 before a length.
        self._left = 0

    def feed(self, data: bytes) -> bytes:
        """The part of the body that these bytes hold. Raises ``ValueError`` when they are no chunks."""
        rest = self._rest + data if self._rest else data
        parts: list[bytes] = []
        start = 0
        while True:
            if self._left:
                piece = rest[start : start + self._left]
                start += len(piece)
                # The last two bytes of a chunk end its line.
                body = self._left - 2
                if body > 0:
                    parts.append(piece[:body])
                self._left -= len(piece)
                if self._left:
                    self._rest = b""
                    return b"".join(parts)
            end = rest.find(b"\r\n", start)
            if end < 0:
                self._rest = rest[start:]
                return b"".join(parts)
            length = int(rest[start:end].partition(b";")[0], 16)
            start = end + 2
            if length == 0:
                # What follows are trailers, which nobody reads.
                self._rest = b""
                return b"".join(parts)
            self._left = length + 2
