"""Ranges in place of messages, for the backlog of a queue that is drained quickly."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime

from goqueue.db.database import Database
from goqueue.dispatch.ready_looks import moment_of
from goqueue.dispatch.runway_state import RunwayState
from goqueue.dispatch.type_routes import TypeRoutes
from goqueue.engine.range_rows import next_ranges
from goqueue.engine.ready_rows import ReadyJob, Wanted
from goqueue.engine.runway.ranges import RunwayContents
from goqueue.engine.runway.runway import ReadyRange, Runway
from goqueue.jobs import MAX_JOB_ID

#: A runway that had to become so long is drained so quickly that ranges serve it better.
RANGES_FROM = 512

#: The jobs of a range: more than a worker has places for go back to the runway, which costs a moment.
RANGE_JOBS = 64

#: How often it is looked for ranges that were fetched and never claimed.
LOST_SECONDS = 0.5

#: A moment and an id: where a job or the end of a range stands in the order.
_Point = tuple[datetime, int]

_LAST: _Point = (datetime.max.replace(tzinfo=UTC), MAX_JOB_ID)


class RangeDispatch:
    """Pushes ranges, and knows which jobs the ranges have that are out.

    Attributes:
        refused_by: queues at which a worker listens that does not claim ranges.
    """

    def __init__(self, database: Database, runway: Runway, routes: TypeRoutes) -> None:
        self._database = database
        self._runway = runway
        self._routes = routes
        self.refused_by: set[str] = set()
        self._out: dict[str, tuple[ReadyRange, ...]] = {}
        self._lost_at = 0.0

    def see(self, contents: Mapping[str, RunwayContents]) -> None:
        """Learn which ranges are out; now and then, forget those that nobody is going to claim."""
        self._out = {queue: found.ranges for queue, found in contents.items() if found.ranges}
        now = time.monotonic()
        if now >= self._lost_at:
            self._lost_at = now + LOST_SECONDS
            for queue in self._out:
                self._runway.forget_lost_ranges(queue)

    def serve(self, queue: str, state: RunwayState, want: Wanted) -> bool:
        """Tell whether ranges serve for what is wanted of a queue."""
        return (
            want.behind is not None
            and state.limit >= RANGES_FROM
            and queue not in self.refused_by
            and not self._routes.is_sorted(queue)
        )

    def push(self, queue: str, state: RunwayState, want: Wanted, limited: Collection[str]) -> int | None:
        """Push the wanted rows as ranges; return their number.

        None: nothing was pushed, since among them is one that not every worker of the queue may claim.
        """
        assert state.frontier is not None
        with self._database.autocommit() as connection:
            found = next_ranges(
                connection,
                queue,
                state.frontier,
                count=want.count,
                size=RANGE_JOBS,
                known=self._routes.common_types(queue),
                limited=limited,
            )
        if found.is_foreign:
            return None
        if found.ranges:
            self._runway.dispatch_ranges(queue, found.ranges, limit=state.limit)
        last = found.ranges[-1].last if found.ranges else None
        state.note_ranges(last, complete=found.jobs < want.count)
        return found.jobs

    def outside(self, queue: str, state: RunwayState, rows: Sequence[ReadyJob]) -> Sequence[ReadyJob]:
        """The rows that are in no range that is out, nor behind the last of them."""
        out = [(_point(one.behind), _point(one.last)) for one in self._out.get(queue, ())]
        if state.by_range and state.frontier is not None:
            out.append((_point(state.frontier), _LAST))
        if not out:
            return rows
        return [row for row in rows if not _is_in(_point((row.rank, row.id)), out)]


def _is_in(point: _Point, ranges: Sequence[tuple[_Point, _Point]]) -> bool:
    return any(behind < point <= last for behind, last in ranges)


def _point(place: tuple[str, int]) -> _Point:
    return moment_of(place[0]), place[1]
