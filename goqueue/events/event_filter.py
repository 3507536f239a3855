"""Filters: which events somebody wants to hear of, and may."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from goqueue.errors import InvalidJobError
from goqueue.events.event import Event, EventKind

__all__ = ["EventFilter", "kinds_of"]

_ALL = frozenset(kind.value for kind in EventKind)


@dataclass(frozen=True, slots=True)
class EventFilter:
    """A choice of events; what is None does not matter. Equal ones choose equally.

    Attributes:
        kinds: kinds of events.
        queue, type: of the job, or of what else the event is about.
        job_id: of the job.
        tag: one of the job's, as they are now.
        queues, types: nothing else exists for whoever asks; an event that is about none of them is not told.
    """

    kinds: frozenset[str] | None = None
    queue: str | None = None
    type: str | None = None
    job_id: int | None = None
    tag: str | None = None
    queues: frozenset[str] | None = None
    types: frozenset[str] | None = None

    def chooses(self, event: Event) -> bool:
        """Say whether it chooses an event, as far as that can be told without the job's tags."""
        return (
            (self.job_id is None or self.job_id == event.job_id)
            and (self.kinds is None or event.kind in self.kinds)
            and (self.queue is None or self.queue == event.queue)
            and (self.type is None or self.type == event.type)
            and (self.tag is None or event.job_id is not None)
            and (self.queues is None or event.queue in self.queues)
            and (self.types is None or event.type in self.types)
        )


def kinds_of(names: Iterable[str]) -> frozenset[str] | None:
    """Return the kinds of these names; `job` and `job.*` are all of jobs. None where there are no names.

    Raises:
        InvalidJobError: there are no events of that name.
    """
    chosen: set[str] = set()
    is_given = False
    for name in names:
        is_given = True
        subject = name.removesuffix(".*")
        found = {kind for kind in _ALL if kind == name or kind.partition(".")[0] == subject}
        if not found:
            raise InvalidJobError(
                {"event": f"expected a kind of event, such as job.completed or job.*: {name!r}"}
            )
        chosen |= found
    return frozenset(chosen) if is_given else None
