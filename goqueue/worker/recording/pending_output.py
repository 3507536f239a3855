"""The output of an attempt that is not written yet: pieces that come every few milliseconds, in bounds."""

from __future__ import annotations

from collections.abc import Sequence

from goqueue.engine.output_rows import OutputPiece

__all__ = ["PendingOutput"]


class PendingOutput:
    """The output of one attempt on its way to PostgreSQL; whoever has the lock of the reporter uses it.

    What was said since the last write becomes one chunk.

    Args:
        max_bytes: so much of the output of an attempt is kept; once something was cut, all that follows is.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._parts: list[str] = []
        self._unwritten: list[OutputPiece] = []
        self._last_chunk = 0
        self._kept_bytes = 0
        self._is_cut = False
        self._has_told = False

    def add(self, encoded: bytes, *, has_room: bool) -> int:
        """Add a piece, as far as there is room; how many bytes wait more than before."""
        if self._is_cut:
            return 0
        room = self._max_bytes - self._kept_bytes if has_room else 0
        text = encoded[:room].decode("utf-8", "ignore")
        kept = len(text.encode())
        self._is_cut = kept < len(encoded)
        self._kept_bytes += kept
        if text:
            self._parts.append(text)
        return kept

    def take(self) -> list[OutputPiece]:
        """Take what is not written yet, as chunks."""
        chunks, self._unwritten = self._unwritten, []
        if self._parts:
            chunks.append(self._next("".join(self._parts)))
            self._parts = []
        if self._is_cut and not self._has_told:
            self._has_told = True
            chunks.append(self._next(None))
        return chunks

    def put_back(self, chunks: Sequence[OutputPiece]) -> int:
        """Let chunks that could not be written wait again, with their numbers; how many bytes they are."""
        self._unwritten = [*chunks, *self._unwritten]
        return sum(len((chunk.text or "").encode()) for chunk in chunks)

    def _next(self, text: str | None) -> OutputPiece:
        self._last_chunk += 1
        return OutputPiece(self._last_chunk, text)
