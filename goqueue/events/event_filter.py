"""Filters: which events somebody wants to hear of, and may."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from goqueue.engine.options.request_models import JobId, Name, Request, Tag
from goqueue.errors import InvalidJobError
from goqueue.events.event import Event, EventKind

__all__ = ["EventChoice", "EventFilter", "FilterIndex", "kinds_of"]

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


class EventChoice(Request):
    """A choice of events that a program says; what is left out does not matter."""

    queue: Name | None = None
    type: Name | None = None
    job_id: JobId | None = None
    tag: Tag | None = None
    after: str | None = None
    seconds: Annotated[float, Field(ge=0)] | None = None


class FilterIndex:
    """Filters by the one thing that decides soonest, so that thousands of them are not asked for each event.

    Args:
        filters: all that there are.
    """

    def __init__(self, filters: Iterable[EventFilter]) -> None:
        self._of_job: dict[int | None, list[EventFilter]] = {}
        self._of_queue: dict[str | None, list[EventFilter]] = {}
        self._of_type: dict[str | None, list[EventFilter]] = {}
        self._others: list[EventFilter] = []
        for wanted in filters:
            if wanted.job_id is not None:
                self._of_job.setdefault(wanted.job_id, []).append(wanted)
            elif wanted.queue is not None:
                self._of_queue.setdefault(wanted.queue, []).append(wanted)
            elif wanted.type is not None:
                self._of_type.setdefault(wanted.type, []).append(wanted)
            else:
                self._others.append(wanted)

    def choose(self, events: Iterable[Event]) -> dict[EventFilter, list[Event]]:
        """Return what each filter chooses, as `EventFilter.chooses` says; those that choose nothing not."""
        chosen: dict[EventFilter, list[Event]] = {}
        for event in events:
            for wanted in itertools.chain(
                self._of_job.get(event.job_id, ()),
                self._of_queue.get(event.queue, ()),
                self._of_type.get(event.type, ()),
                self._others,
            ):
                if wanted.chooses(event):
                    chosen.setdefault(wanted, []).append(event)
        return chosen


def kinds_of(names: Iterable[str]) -> frozenset[str] | None:
    """Return the kinds of these names; `job` and `job.*` are all of jobs. None where there are no names.

    Raises:
        InvalidJobError: there are no events of that name.
    """
    chosen: set[str] = set()
    is_given = False
    for name in names:
        is_given = True
        if not isinstance(name, str):
            raise InvalidJobError({"event": f"expected a text, got {type(name).__qualname__}"})
        subject = name.removesuffix(".*")
        found = {kind for kind in _ALL if kind == name or kind.partition(".")[0] == subject}
        if not found:
            raise InvalidJobError(
                {"event": f"expected a kind of event, such as job.completed or job.*: {name!r}"}
            )
        chosen |= found
    return frozenset(chosen) if is_given else None
