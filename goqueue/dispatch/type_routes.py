"""Routes of jobs to workers that can run them: by the types that each knows, its labels and its slots.

While all live workers of a queue can run all that is in it, which is nearly always, its jobs go to its
runway, and nothing here costs anything. During a rolling deploy some know types, or versions of a type, that
others do not; some have labels that jobs require, or more threads or async slots than others. What all can
run goes to the runway as before; what only some can run goes to the *lane* of these, the part of the runway
that only workers of one signature fetch from; what nobody can run stays a row.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple, Protocol

from goqueue.config.labels import common_to, satisfies
from goqueue.db.database import Connection
from goqueue.engine.options.known_types import KnownTypes
from goqueue.engine.ready_rows import LaneWanted, ReadyJob, Wanted
from goqueue.engine.runway.runway import Message
from goqueue.engine.workers import worker_type_rows as worker_types
from goqueue.jobs import QUARANTINE_QUEUE

__all__ = ["TypeRoutes"]

#: A queue in which a job was seen that not every worker can run is looked at with care for so long.
SORTED_SECONDS = 10.0


class Routed(Protocol):
    """A row of a job that may start."""

    @property
    def id(self) -> int:
        """The id of the job."""

    @property
    def fence(self) -> int:
        """The fence of the job."""

    @property
    def type(self) -> str:
        """The type of the job."""

    @property
    def tried(self) -> list[str] | None:
        """The schemas that could not read its payload, while it waits for another one."""

    @property
    def requires(self) -> list[str] | None:
        """The labels that its worker has to have; None: it runs anywhere, and takes one slot."""

    @property
    def slots(self) -> int:
        """The number of threads of its worker that it takes, or of async slots."""


class _OfAll(NamedTuple):
    """What every worker of a queue knows and has."""

    types: frozenset[str]
    labels: tuple[str, ...]
    slots: int

    @classmethod
    def of(cls, those: Collection[KnownTypes]) -> _OfAll:
        return cls(
            frozenset.intersection(*(frozenset(known.types) for known in those)) if those else frozenset(),
            common_to(known.labels for known in those),
            min((known.slots_for_any for known in those), default=0),
        )


class TypeRoutes:
    """Says by which way jobs reach a worker that can run them.

    A worker of a release that does not tell what it knows is given everything, as that release expects:
    while one serves a queue, so is every other.
    """

    def __init__(self) -> None:
        self._signatures: dict[str, set[str | None]] = {}
        self._known: dict[str, KnownTypes] = {}
        self._by_all: dict[str, _OfAll] = {}
        #: Queues whose jobs are told apart by who can run them, and until when.
        self._sorted_until: dict[str, float] = {}

    def learn(self, connection: Connection, *, lease_seconds: float) -> dict[str, set[str]]:
        """Ask which workers serve each queue.

        Returns the queues of which that changed, with the signatures that serve them no more.
        """
        before = self._signatures
        now = worker_types.signatures_by_queue(connection, lease_seconds=lease_seconds)
        changed = {queue for queue in before.keys() | now.keys() if before.get(queue) != now.get(queue)}
        if changed:
            self._signatures = now
            self._learn_types(connection)
        for queue in changed:
            self._sorted_until.pop(queue, None)
        return {
            queue: {left for left in before.get(queue, set()) - now.get(queue, set()) if left is not None}
            for queue in changed
        }

    def _learn_types(self, connection: Connection) -> None:
        """What each signature stands for never changes: it is asked for once."""
        wanted = {signature for those in self._signatures.values() for signature in those if signature}
        known = {signature: self._known[signature] for signature in wanted & self._known.keys()}
        self._known = known | worker_types.known_types(connection, wanted - known.keys())
        self._by_all = {
            queue: _OfAll.of(self._knowledge(queue).values())
            for queue, those in self._signatures.items()
            if None not in those
        }

    def able(self, queue: str) -> list[KnownTypes] | None:
        """List what the workers of the queue can run, each once.

        None: no worker is there, or one does not tell.
        """
        return list(self._knowledge(queue).values()) if queue in self._by_all else None

    def common_types(self, queue: str) -> frozenset[str] | None:
        """The types that every worker of a queue knows; None: some worker does not tell."""
        by_all = self._by_all.get(queue)
        return None if by_all is None else by_all.types

    def is_sorted(self, queue: str) -> bool:
        """Tell whether the jobs of a queue are told apart by who can run them at present."""
        return queue in self._sorted_until

    def suits_all(self, queue: str, row: Routed) -> bool:
        """Tell whether every worker of the queue can run a job."""
        by_all = self._by_all.get(queue)
        if row.tried or by_all is None:
            return not row.tried
        return row.type in by_all.types and (
            row.requires is None or (row.slots <= by_all.slots and satisfies(by_all.labels, row.requires))
        )

    def has_way(self, queue: str, row: Routed) -> bool:
        """Tell whether some worker of the queue can run a job, as far as is known."""
        return self.suits_all(queue, row) or bool(self.lanes_of(queue, row))

    def lanes_of(self, queue: str, row: Routed) -> list[str]:
        """The signatures whose workers can run a job that not all can."""
        return [
            signature
            for signature, known in self._knowledge(queue).items()
            if row.type in known
            and known[row.type] not in (row.tried or ())
            and known.holds(row.type, row.requires, row.slots)
        ]

    def split(self, queue: str, rows: Iterable[Routed]) -> dict[str | None, list[Message]]:
        """Split the rows of a queue into messages by the way that each has to go, the signature of its lane.

        None is the runway. A row that nobody can run has no message.
        """
        found = defaultdict[str | None, list[Message]](list)
        for row in rows:
            ways: list[str | None] = [None]
            if not self.suits_all(queue, row):
                ways = [*self.lanes_of(queue, row)]
            for way in ways:
                found[way].append(Message(row.id, row.fence))
        return dict(found)

    def sort(self, queue: str) -> None:
        """Sort a queue for a while, in which a job was seen that not every worker can run."""
        self._sorted_until[queue] = time.monotonic() + SORTED_SECONDS

    def end_sorting(self) -> set[str]:
        """Look at queues as usual again that were sorted for a while; those queues."""
        now = time.monotonic()
        ended = {queue for queue, until in self._sorted_until.items() if until <= now}
        for queue in ended:
            del self._sorted_until[queue]
        return ended

    def wanted(self, queue: str, want: Wanted) -> Wanted:
        """Tell what to read for the runway of a queue: where it is sorted, what every worker can run."""
        if queue not in self._sorted_until:
            return want
        by_all = self._by_all.get(queue)
        if by_all is None:
            return replace(want, sorted=True)
        return replace(
            want,
            sorted=True,
            types=tuple(by_all.types),
            labels=by_all.labels,
            slots=by_all.slots,
        )

    def lanes(self, counts: Mapping[str, int]) -> list[tuple[str, LaneWanted]]:
        """Tell what to read for the lanes of those queues that are sorted, with the signature of each."""
        return [
            (signature, self._lane(queue, count, known))
            for queue, count in counts.items()
            if queue in self._sorted_until
            for signature, known in self._knowledge(queue).items()
        ]

    def has_foreign(self, queue: str, rows: Iterable[ReadyJob]) -> bool:
        """Tell whether some of the rows of a queue are not for every worker."""
        by_all = self._by_all.get(queue)
        return any(
            row.tried is not None
            or (by_all is not None and row.type not in by_all.types)
            or (row.requires is not None and not self.suits_all(queue, row))
            for row in rows
        )

    def _knowledge(self, queue: str) -> dict[str, KnownTypes]:
        """By signature; who runs alone has the whole process, however many threads it has."""
        those = self._signatures.get(queue, set())
        known = {signature: self._known[signature] for signature in those if signature in self._known}
        if queue == QUARANTINE_QUEUE:
            return {signature: one.alone for signature, one in known.items()}
        return known

    def _lane(self, queue: str, count: int, known: KnownTypes) -> LaneWanted:
        by_all = self._by_all.get(queue)
        lane = LaneWanted(
            queue,
            count,
            known.types,
            known.schemas,
            (),
            known.labels,
            known.slots,
            async_types=known.async_types,
            async_slots=known.async_slots,
        )
        if by_all is None:
            return lane
        return replace(
            lane,
            others=tuple(name for name in known.types if name not in by_all.types),
            labels_of_all=by_all.labels,
            slots_of_all=by_all.slots,
        )
