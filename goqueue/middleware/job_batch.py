"""Claimed jobs that run together: one item of the work queue, with one place in its process."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from goqueue.middleware.attempt import JobAttempt
from goqueue.middleware.job_message import JobMessage

if TYPE_CHECKING:
    from dramatiq.worker import ConsumerThread

__all__ = ["JobBatch", "holds_place", "leave_place", "messages_of"]


class JobBatch:
    """Jobs of one type, of one queue and one key, in the order of their claim.

    The batch has the place, of a thread or of the event loop; its jobs have none while they are in it.

    Attributes:
        messages: the jobs; never empty, but where none of them may begin.
        consumer: the thread that claimed them.
        has_async_slot: its place is a slot of the event loop, not of a thread.
    """

    __slots__ = ("consumer", "has_async_slot", "messages")

    def __init__(self, messages: list[JobMessage], consumer: ConsumerThread, *, has_async_slot: bool) -> None:
        self.messages = messages
        self.consumer = consumer
        self.has_async_slot = has_async_slot

    @property
    def message(self) -> JobBatch:
        """The batch itself: it is its own item of Dramatiq's work queue."""
        return self

    @property
    def current(self) -> JobAttempt:
        """The first job of the batch."""
        return self.messages[0].current

    @property
    def queue_name(self) -> str:
        """The queue whose consumer claimed it."""
        return self.messages[0].queue_name

    @property
    def actor_name(self) -> str:
        """The type of its jobs."""
        return self.messages[0].actor_name

    def dissolved(self) -> list[JobMessage]:
        """Return the jobs by themselves, of which the first has the place now."""
        first = self.current
        first.has_async_slot, first.claimed.slots = self.has_async_slot, 1
        return self.messages


def holds_place(current: JobAttempt) -> bool:
    """Tell whether a claimed job of a batch type has a place of its own."""
    return current.has_async_slot or current.claimed.slots > 0


def leave_place(current: JobAttempt) -> None:
    """Let a job have no place of its own: its batch has one."""
    current.has_async_slot, current.claimed.slots = False, 0


def messages_of(items: Iterable[JobMessage | JobBatch]) -> list[JobMessage]:
    """List the jobs of items of the work queue, in order, with batches dissolved."""
    messages: list[JobMessage] = []
    for item in items:
        messages += item.dissolved() if isinstance(item, JobBatch) else [item]
    return messages
