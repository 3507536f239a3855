"""Routes of jobs to workers that can run them, by the types that each worker knows.

While all live workers of a queue know the same types, which is nearly always, its jobs go to its runway, and
nothing here costs anything. During a rolling deploy some know types, or versions of a type, that others do
not: what all know goes to the runway as before; what only some know goes to the *lane* of these, the part of
the runway that only workers of one signature fetch from; what nobody knows stays a row.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from functools import reduce
from typing import Protocol

from goqueue.db.database import Connection
from goqueue.engine.options.known_types import KnownTypes
from goqueue.engine.ready_rows import LaneWanted, ReadyJob, Wanted
from goqueue.engine.runway.runway import Message
from goqueue.engine.workers import worker_type_rows as worker_types

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


class TypeRoutes:
    """Says by which way jobs reach a worker that can run them.

    A worker of a release that does not tell what it knows is given everything, as that release expects:
    while one serves a queue, so is every other.
    """

    def __init__(self) -> None:
        self._signatures: dict[str, set[str | None]] = {}
        self._known: dict[str, KnownTypes] = {}
        self._by_all: dict[str, frozenset[str]] = {}
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
            queue: _common(self._known[signature].types for signature in those if signature in self._known)
            for queue, those in self._signatures.items()
            if None not in those
        }

    def known_by_some(self, queue: str) -> list[tuple[str, str]] | None:
        """List each type that some worker of the queue knows, with the hash of its schema.

        None: no worker is there, or one does not tell.
        """
        if queue not in self._by_all:
            return None
        pairs = {
            pair
            for known in self._knowledge(queue).values()
            for pair in zip(known.types, known.schemas, strict=True)
        }
        return sorted(pairs)

    def common_types(self, queue: str) -> frozenset[str] | None:
        """The types that every worker of a queue knows; None: some worker does not tell."""
        return self._by_all.get(queue)

    def is_sorted(self, queue: str) -> bool:
        """Tell whether the jobs of a queue are told apart by who can run them at present."""
        return queue in self._sorted_until

    def suits_all(self, queue: str, type_name: str, tried: Collection[str] | None) -> bool:
        """Tell whether every worker of the queue can run such a job."""
        by_all = self._by_all.get(queue)
        return not tried and (by_all is None or type_name in by_all)

    def has_way(self, queue: str, type_name: str, tried: Collection[str] | None) -> bool:
        """Tell whether some worker of the queue can run such a job, as far as is known."""
        return self.suits_all(queue, type_name, tried) or bool(self.lanes_of(queue, type_name, tried))

    def lanes_of(self, queue: str, type_name: str, tried: Collection[str] | None) -> list[str]:
        """The signatures whose workers can run a job that not all can."""
        return [
            signature
            for signature, known in self._knowledge(queue).items()
            if type_name in known and known[type_name] not in (tried or ())
        ]

    def split(self, queue: str, rows: Iterable[Routed]) -> dict[str | None, list[Message]]:
        """Split the rows of a queue into messages by the way that each has to go, the signature of its lane.

        None is the runway. A row that nobody can run has no message.
        """
        found = defaultdict[str | None, list[Message]](list)
        for row in rows:
            ways: list[str | None] = [None]
            if not self.suits_all(queue, row.type, row.tried):
                ways = [*self.lanes_of(queue, row.type, row.tried)]
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
        return replace(want, sorted=True, types=None if by_all is None else tuple(by_all))

    def lanes(self, counts: Mapping[str, int]) -> list[tuple[str, LaneWanted]]:
        """Tell what to read for the lanes of those queues that are sorted, with the signature of each."""
        return [
            (signature, LaneWanted(queue, count, known.types, known.schemas, self._others(queue, known)))
            for queue, count in counts.items()
            if queue in self._sorted_until
            for signature, known in self._knowledge(queue).items()
        ]

    def has_foreign(self, queue: str, rows: Iterable[ReadyJob]) -> bool:
        """Tell whether some of the rows of a queue are not for every worker."""
        by_all = self._by_all.get(queue)
        return any(row.tried is not None or (by_all is not None and row.type not in by_all) for row in rows)

    def _knowledge(self, queue: str) -> dict[str, KnownTypes]:
        those = self._signatures.get(queue, set())
        return {signature: self._known[signature] for signature in those if signature in self._known}

    def _others(self, queue: str, known: KnownTypes) -> tuple[str, ...]:
        """Of the types, those that not every worker of the queue knows."""
        by_all = self._by_all.get(queue)
        return () if by_all is None else tuple(name for name in known.types if name not in by_all)


def _common(known: Iterable[Collection[str]]) -> frozenset[str]:
    sets = [frozenset(types) for types in known]
    return reduce(frozenset.__and__, sets) if sets else frozenset()
