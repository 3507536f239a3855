"""Quick reads of ready and due rows, even while a transaction that stays open holds back vacuum.

An index has an entry for every row that was ever ready. Under a held horizon PostgreSQL may neither
remove nor skip those of rows that are done, so a look from the first entry on walks all that was done
since: 25 ms for 100,000, ten times a second. Such a *full look* therefore takes at most a hundredth of
the time. Between two of them a look begins at a mark, before which the last look found nothing; what came
below the mark meanwhile (a higher priority) is found by its id. What is edited, replayed or due again
at a place below the mark waits for the next full look.

Without a held horizon a full look takes a millisecond or less, and every look is one.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import groupby

from goqueue.config.bounds import LAST_MOMENT
from goqueue.db.database import Connection
from goqueue.engine import ready_rows as ready_store
from goqueue.engine.ready_rows import Below, ReadyJob, Wanted

#: The share of the time that full looks may take.
FULL_LOOK_SHARE = 0.01

#: After a full look that took no longer, the next look is a full one as well.
SLOW_SECONDS = 0.002

#: A mark stays so far behind the present: a transaction may commit a while after its `now()`, and its ids may
#: be seen after higher ones. Every look walks what was done meanwhile, so it is no longer than most take;
#: what takes longer was pushed by whoever committed it, or waits for the next full look.
LATE_SECONDS = 0.5


class LookTurns:
    """Says who may look in full: each once a turn. A turn is a hundred times as long as its looks took."""

    def __init__(self) -> None:
        self._ends_at = 0.0
        self._had: set[str] = set()

    def due(self, names: Collection[str]) -> set[str]:
        """Pick those of these names that have not had their full look in this turn."""
        if time.monotonic() >= self._ends_at:
            self._had.clear()
        return set(names) - self._had

    def had(self, names: Collection[str], seconds: float) -> None:
        """Note that these had theirs, all together in so many seconds."""
        self._had.update(names)
        self._ends_at = max(self._ends_at, time.monotonic()) + seconds / FULL_LOOK_SHARE

    def forget(self, names: Collection[str]) -> None:
        """Let these have another one."""
        self._had.difference_update(names)


@dataclass(slots=True)
class QueueMark:
    """The knowledge of a queue: at or before `place` nothing was ready, but for what is found by its id.

    Attributes:
        seen: when (monotonic), and the highest id that there was.
    """

    place: tuple[datetime, int]
    seen: deque[tuple[float, int]] = field(default_factory=deque)

    def note_id(self, highest_id: int, *, before: int) -> None:
        """Keep in front the latest one that is `LATE_SECONDS` old and before this id, or else the oldest."""
        now = time.monotonic()
        self.seen.append((now, highest_id))
        while len(self.seen) > 1 and self.seen[1][0] <= now - LATE_SECONDS and self.seen[1][1] < before:
            self.seen.popleft()

    @property
    def below(self) -> Below:
        """Tell where the newcomers of the queue are."""
        return Below(self.place, self.seen[0][1])


class ReadyLooks:
    """Reads the next ready rows of queues."""

    def __init__(self) -> None:
        self._turns = LookTurns()
        self._marks: dict[str, QueueMark] = {}

    def keep(self, queues: Collection[str]) -> None:
        """Forget other queues: a look finds nothing in one that is paused, which says nothing of its rows."""
        self.forget(self._marks.keys() - set(queues))

    def forget(self, queues: Collection[str]) -> None:
        """Look at these from their first row on again: it changed what a look finds."""
        for queue in queues:
            self._marks.pop(queue, None)
        self._turns.forget(queues)

    def read(self, connection: Connection, wanted: Mapping[str, Wanted]) -> dict[str, list[ReadyJob]]:
        """Read the wanted rows of each queue, by rank."""
        first = {queue for queue, want in wanted.items() if want.behind is None}
        full = self._turns.due(first)
        marked = (first - full) & self._marks.keys()
        looks = {
            queue: replace(want, behind=self._marks[queue].place) if queue in marked else want
            for queue, want in wanted.items()
        }
        started = time.monotonic()
        try:
            found = _by_queue(ready_store.next_ready(connection, looks))
        finally:
            # Also when it was ended because it took too long.
            seconds = time.monotonic() - started
            if full:
                self._turns.had(full, seconds)
        for queue in full:
            self._marks.pop(queue, None)
        slow = full if seconds > SLOW_SECONDS else set()
        if marked or slow:
            newcomers = self._newcomers(connection, {queue: wanted[queue] for queue in marked})
            self._move_marks(connection, marked | slow, found, newcomers)
            for queue, rows in newcomers.items():
                # They are below the mark, and so before all others.
                found[queue] = (rows + found.get(queue, []))[: wanted[queue].count]
        return found

    def _newcomers(self, connection: Connection, wanted: Mapping[str, Wanted]) -> dict[str, list[ReadyJob]]:
        places = {
            queue: replace(
                self._marks[queue].below,
                sorted=want.sorted,
                types=want.types,
                labels=want.labels,
                slots=want.slots,
            )
            for queue, want in wanted.items()
        }
        return _by_queue(ready_store.newcomers(connection, places)) if places else {}

    def _move_marks(
        self,
        connection: Connection,
        queues: set[str],
        found: Mapping[str, list[ReadyJob]],
        newcomers: Mapping[str, list[ReadyJob]],
    ) -> None:
        """To where this look began to find rows. Newcomers stay what is looked for by id until they start."""
        now, highest_id = ready_store.present(connection)
        latest = (now - timedelta(seconds=LATE_SECONDS), 0)
        for queue in queues:
            rows, new = found.get(queue), newcomers.get(queue, [])
            place = min(latest, (moment_of(rows[0].rank), rows[0].id - 1)) if rows else latest
            mark = self._marks.setdefault(queue, QueueMark(place))
            mark.place = max(mark.place, place)
            # Of more than a thousand only the first are known.
            all_known = len(new) < ready_store.NEWCOMERS_LIMIT
            mark.note_id(
                highest_id, before=min((row.id for row in new), default=highest_id + 1) if all_known else 0
            )


class DueLooks:
    """Gives rows whose time has come their place in the order."""

    def __init__(self) -> None:
        self._turns = LookTurns()
        self._mark: datetime | None = None

    def make_due(self, connection: Connection) -> int:
        """Give due rows their place in the order, as `ready_store.make_due` does; return their number."""
        full = self._turns.due({"due"})
        started = time.monotonic()
        try:
            due = ready_store.make_due(connection, after=None if full else self._mark)
        finally:
            seconds = time.monotonic() - started
            if full:
                self._turns.had(full, seconds)
        if full:
            self._mark = None
        # Where the limit was reached more may be due, and the mark stays.
        if due < ready_store.DUE_LIMIT and (seconds > SLOW_SECONDS if full else self._mark is not None):
            now, _ = ready_store.present(connection)
            self._mark = now - timedelta(seconds=LATE_SECONDS)
        return due


def moment_of(rank: str) -> datetime:
    """A place in the order as a moment; where Python has none so late, the last one."""
    try:
        return datetime.fromisoformat(rank)
    except ValueError:
        return LAST_MOMENT


def _by_queue(rows: list[ReadyJob]) -> dict[str, list[ReadyJob]]:
    return {queue: list(group) for queue, group in groupby(rows, key=lambda row: row.queue)}
