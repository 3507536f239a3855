"""The output of jobs, live: one question of PostgreSQL for all streams that read along."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from goqueue.db.database import Database
from goqueue.engine import output_rows
from goqueue.engine.output_rows import OutputChunk, Place
from goqueue.events.hub import AHEAD_BYTES, ASK_SECONDS, SILENCE_SECONDS, Sink
from goqueue.events.looking import Looking

__all__ = ["OutputHub", "Reader"]

PAUSE_SECONDS = 0.03

#: The chunks of one job and one look.
CHUNKS = 100


@dataclass(eq=False, slots=True)
class Reader:
    """One who reads along.

    Attributes:
        job_id: which job.
        place: behind which (fence, chunk) it goes on.
        sink: where it is sent to.
        key: whose key it reads with; None: with none.
    """

    job_id: int
    place: Place
    sink: Sink
    key: Hashable = None
    heard_at: float = field(default_factory=time.monotonic)


class OutputHub(Looking):
    """Sends readers what their jobs stream, and its end, from a thread that looks while there is one.

    Args:
        database: where the jobs are; not a read replica.
        chunk: writes a chunk as it is sent.
        end: writes the end, by the status of the job; None: it is gone.
        silence: what is sent to one who has heard nothing for a while.
        is_good: tells whether a key is still good; its readers are ended otherwise.
    """

    def __init__(
        self,
        database: Database,
        *,
        chunk: Callable[[OutputChunk], bytes],
        end: Callable[[str | None], bytes],
        silence: bytes,
        is_good: Callable[[Hashable], bool] = bool,
    ) -> None:
        super().__init__("output", PAUSE_SECONDS)
        self._database = database
        self._chunk, self._end, self._silence, self._is_good = chunk, end, silence, is_good
        self._readers: set[Reader] = set()
        self._ask_at = 0.0

    def add(self, reader: Reader) -> Callable[[], None]:
        """Let one read along from its place on; return what ends that, which does not block."""
        with self._lock:
            self._readers.add(reader)
            self._begin()

        def remove() -> None:
            with self._lock:
                self._readers.discard(reader)

        return remove

    def _is_awaited(self) -> bool:
        return bool(self._readers)

    def _look(self) -> None:
        with self._lock:
            readers = list(self._readers)
        now = time.monotonic()
        if now >= self._ask_at:
            self._ask_at = now + ASK_SECONDS
            self._end_revoked(readers)
        ready: dict[tuple[int, Place], list[Reader]] = {}
        for reader in readers:
            if reader.sink.waiting_bytes <= AHEAD_BYTES:
                ready.setdefault((reader.job_id, reader.place), []).append(reader)
        if not ready:
            return
        with self._database.autocommit() as connection:
            found = output_rows.output_behind(connection, list(ready), limit=CHUNKS)
        for together, behind in zip(ready.values(), found, strict=True):
            data = b"".join(map(self._chunk, behind.chunks))
            is_over = behind.has_ended and len(behind.chunks) < CHUNKS
            if is_over:
                data += self._end(behind.status)
            for reader in together:
                self._send(reader, data, now)
                if behind.chunks:
                    reader.place = (behind.chunks[-1].fence, behind.chunks[-1].chunk)
                if is_over:
                    self._finish(reader)

    def _send(self, reader: Reader, data: bytes, now: float) -> None:
        if not data and now - reader.heard_at >= SILENCE_SECONDS:
            data = self._silence
        if data:
            reader.sink.send(data)
            reader.heard_at = now

    def _finish(self, reader: Reader) -> None:
        with self._lock:
            self._readers.discard(reader)
        reader.sink.end()

    def _end_revoked(self, readers: list[Reader]) -> None:
        """End those whose key is not good any more: it is asked once for each key."""
        keys = {reader.key for reader in readers if reader.key is not None}
        bad = {key for key in keys if not self._is_good(key)}
        for reader in readers:
            if reader.key in bad:
                self._finish(reader)
