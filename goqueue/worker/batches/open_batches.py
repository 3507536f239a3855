"""The batches that fill: which job comes into which, and when one is closed. It has no clock of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Container
from typing import Generic, NamedTuple, TypeVar

from goqueue.engine.options.batch import Batch

__all__ = ["BatchKey", "OpenBatch", "OpenBatches"]

Item = TypeVar("Item")


class BatchKey(NamedTuple):
    """The things that all jobs of a batch share.

    Attributes:
        queue, type: of the jobs.
        key: the value of the payload field by which the type is batched.
    """

    queue: str
    type: str
    key: str = ""


class OpenBatch(Generic[Item]):
    """A batch that still takes jobs.

    Attributes:
        key: what its jobs share.
        options: how it is collected.
        items: its jobs, in order.
        bytes: what their payloads have.
        opened_at: when its first job came.
        due_at: when it is closed although it is not full.
    """

    __slots__ = ("bytes", "due_at", "items", "key", "opened_at", "options")

    def __init__(self, key: BatchKey, options: Batch, opened_at: float) -> None:
        self.key = key
        self.options = options
        self.opened_at = opened_at
        self.due_at = opened_at + options.wait_ms / 1000
        self.items: list[Item] = []
        self.bytes = 0

    @property
    def room(self) -> int:
        """The number of jobs that it still takes."""
        return self.options.size - len(self.items)

    def takes(self, payload_bytes: int) -> bool:
        """Tell whether a job with so many bytes of payload fits; the first always does."""
        most = self.options.bytes
        return not self.items or (self.room > 0 and (most is None or self.bytes + payload_bytes <= most))

    @property
    def is_full(self) -> bool:
        """Whether it takes no further job."""
        most = self.options.bytes
        return self.room <= 0 or (most is not None and self.bytes >= most)


class OpenBatches(Generic[Item]):
    """The open batches of one process, at most one for each key. Not thread-safe.

    Args:
        close: takes a batch that is closed, in the order in which they are.
        admit: asked before a batch is opened for an item; where it says no, the item is in no batch.
    """

    def __init__(
        self, close: Callable[[OpenBatch[Item]], object], admit: Callable[[Item], bool] = lambda _item: True
    ) -> None:
        self._close = close
        self._admit = admit
        self._open: dict[BatchKey, OpenBatch[Item]] = {}

    def add(
        self,
        key: BatchKey,
        item: Item,
        *,
        payload_bytes: int,
        options: Batch,
        now: float,
        due_by: float = math.inf,
    ) -> bool:
        """Add an item to the batch of its key; False: it needs a new one, and none may be opened.

        A batch that is full is closed by it; one that is due, by `close_due`.

        Args:
            key: what the batch's jobs share.
            item: the job.
            payload_bytes: the bytes of its payload.
            options: how batches of its type are collected.
            now: the time by the monotonic clock.
            due_by: until then, by that clock, its batch has to be closed.
        """
        batch = self._open.get(key)
        if batch is not None and not batch.takes(payload_bytes):
            self._close(self._open.pop(key))
            batch = None
        if batch is None:
            if not self._admit(item):
                return False
            batch = self._open[key] = OpenBatch(key, options, now)
        batch.items.append(item)
        batch.bytes += payload_bytes
        batch.due_at = min(batch.due_at, due_by)
        if batch.is_full:
            self._close(self._open.pop(key))
        return True

    def close_due(self, now: float) -> None:
        """Close the batches that have waited for long enough, the oldest first."""
        due = [batch for batch in self._open.values() if batch.due_at <= now]
        for batch in sorted(due, key=lambda one: one.due_at):
            self._close(self._open.pop(batch.key))

    def close_of(self, queue: str, type_name: str) -> None:
        """Close the batches of a type: no further job comes into them."""
        for key in [key for key in self._open if (key.queue, key.type) == (queue, type_name)]:
            self._close(self._open.pop(key))

    def opened_before(self, moment: float) -> list[Item]:
        """List the items of batches that have been open since before a moment."""
        return [item for batch in self._open.values() if batch.opened_at < moment for item in batch.items]

    def remove(self, unwanted: Container[Item]) -> tuple[list[Item], list[OpenBatch[Item]]]:
        """Take items out of their batches: those that were in one, and the batches that are empty now."""
        removed: list[Item] = []
        empty: list[OpenBatch[Item]] = []
        for key, batch in list(self._open.items()):
            left = [item for item in batch.items if item not in unwanted]
            if len(left) < len(batch.items):
                removed += [item for item in batch.items if item in unwanted]
                batch.items = left
            if not left:
                empty.append(self._open.pop(key))
        return removed, empty

    def take_all(self) -> list[OpenBatch[Item]]:
        """Take the open batches away: whoever has them gives their jobs back."""
        taken = list(self._open.values())
        self._open.clear()
        return taken

    def room_in(self, queue: str) -> int:
        """Tell how many jobs of a queue the open batches still take, if they are of the right keys."""
        return sum(batch.room for key, batch in self._open.items() if key.queue == queue)

    @property
    def next_due_at(self) -> float:
        """The time at which the next batch is due; infinite: none is open."""
        return min((batch.due_at for batch in self._open.values()), default=math.inf)

    def __len__(self) -> int:
        return len(self._open)
