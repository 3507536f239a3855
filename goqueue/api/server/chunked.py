"""Bodies without a length (RFC 9112, 7.1): decoded while they come in, with a bound on everything."""

from __future__ import annotations

import re

from goqueue.api.server.refusals import RefusedRequestError

#: Each chunk costs us a turn, however small it is.
MAX_CHUNKS = 100_000
LINE_MAX_BYTES = 1024
TRAILERS_MAX_BYTES = 8 * 1024

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t -~\x80-\xff]*)?")
_TRAILER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*")


class ChunkedBody:
    """A body in chunks.

    Attributes:
        decoded: what has come of it.
    """

    def __init__(self) -> None:
        self.decoded = bytearray()
        self._chunks = 0
        self._left_of_chunk = 0
        self._ends_chunk = False
        self._trailers: int | None = None

    def take(self, received: bytearray) -> bool:
        """Take from the start of `received` what belongs to the body; whether that was its end.

        Raises:
            RefusedRequestError: it is malformed, or made of too many chunks.
        """
        place = 0
        try:
            while True:
                place = self._take_data(received, place)
                if self._left_of_chunk or self._ends_chunk:
                    return False
                line, place = _line(received, place)
                if line is None:
                    return False
                if self._trailers is None:
                    self._begin_chunk(line)
                elif self._is_end(line):
                    return True
        finally:
            del received[:place]

    def _take_data(self, received: bytearray, place: int) -> int:
        if self._left_of_chunk:
            part = received[place : place + self._left_of_chunk]
            self.decoded += part
            self._left_of_chunk -= len(part)
            place += len(part)
        if self._ends_chunk and not self._left_of_chunk and len(received) - place >= len(b"\r\n"):
            if received[place : place + 2] != b"\r\n":
                raise RefusedRequestError(400, "a chunk of the body does not end where its size says")
            self._ends_chunk = False
            place += 2
        return place

    def _begin_chunk(self, line: bytes) -> None:
        match = _SIZE.fullmatch(line)
        if match is None:
            raise RefusedRequestError(400, "expected the size of a chunk in hexadecimal digits")
        self._left_of_chunk = int(match[1], 16)
        if not self._left_of_chunk:
            self._trailers = 0
            return
        self._ends_chunk = True
        self._chunks += 1
        if self._chunks > MAX_CHUNKS:
            raise RefusedRequestError(413, f"expected a body of at most {MAX_CHUNKS:,} chunks")

    def _is_end(self, line: bytes) -> bool:
        assert self._trailers is not None
        if not line:
            return True
        self._trailers += len(line)
        if self._trailers > TRAILERS_MAX_BYTES:
            raise RefusedRequestError(431, "the trailer fields after the body are too large")
        if not _TRAILER.fullmatch(line):
            raise RefusedRequestError(400, "expected a trailer field after the body")
        return False


def _line(received: bytearray, place: int) -> tuple[bytes | None, int]:
    """The next line, and where it ends; None where it has not come whole."""
    end = received.find(b"\r\n", place, place + LINE_MAX_BYTES)
    if end < 0:
        if len(received) - place >= LINE_MAX_BYTES:
            raise RefusedRequestError(400, "a line between two chunks of the body is too long")
        return None, place
    return bytes(received[place:end]), end + 2
