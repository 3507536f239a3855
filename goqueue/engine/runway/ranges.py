"""Ranges of ready jobs on a runway: who takes what of them, and which of them were lost.

The hash `ranges` of a queue has each from its push until all of it is claimed. A range that is in no list
any more was fetched: after a while nobody is going to claim it, and it is forgotten. The dispatcher finds its
jobs by their rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, cast

from goqueue.engine.runway.keys import RunwayKeys
from goqueue.engine.runway.messages import ReadyRange, parse_range
from goqueue.engine.runway.servers import milliseconds, translated


class RunwayContents(NamedTuple):
    """The contents of a runway.

    Attributes:
        entries: the messages and ranges on it.
        known: the messages that are not acknowledged.
        ranges: the ranges of which something may be left to claim.
    """

    entries: int
    known: int
    ranges: tuple[ReadyRange, ...] = ()

    @property
    def in_ranges(self) -> int:
        """The number of jobs in the ranges."""
        return sum(one.jobs for one in self.ranges)

    @property
    def jobs(self) -> int:
        """The number of jobs on the runway, as if nobody had fetched a range and not claimed it yet."""
        return max(0, self.entries - len(self.ranges)) + self.in_ranges


class RunwayRanges(RunwayKeys):
    """Keeps the books of the ranges."""

    def end_ranges(self, queue: str, ended: Sequence[ReadyRange], rest: Sequence[ReadyRange]) -> None:
        """Forget ranges of which all is claimed; what is left of the last ones goes back to the head."""
        runway, ranges = self._key(queue, "runway"), self._key(queue, "ranges")
        with translated(self._servers):
            server = self._servers.holding(runway)
            if not rest:
                server.hdel(ranges, *(one.key for one in ended))
                return
            now_ms = milliseconds(server.time())
            pipeline = server.pipeline(transaction=True)
            if ended:
                pipeline.hdel(ranges, *(one.key for one in ended))
            pipeline.hset(ranges, mapping={one.key: now_ms for one in rest})
            pipeline.lpush(runway, *(one.key for one in reversed(rest)))
            pipeline.execute()

    def forget_lost_ranges(self, queue: str) -> int:
        """Forget ranges that were fetched a while ago, and of which nobody said what became; how many.

        Harmless for one that is claimed later than that: its jobs are pushed twice, and the claims decide.
        """
        runway, key = self._key(queue, "runway"), self._key(queue, "ranges")
        with translated(self._servers):
            server = self._servers.holding(key)
            before_ms = milliseconds(server.time()) - self._lost_push_ms
            pushed = cast("Iterable[tuple[bytes, bytes]]", server.hscan_iter(key, count=1000))
            old = [one for one, at in pushed if not _is_younger(at, before_ms)]
            if not old:
                return 0
            lost = set(old) - set(cast("list[bytes]", server.lrange(runway, 0, -1)))
            return int(server.hdel(key, *lost)) if lost else 0

    @staticmethod
    def _read_ranges(keys: Iterable[bytes]) -> tuple[ReadyRange, ...]:
        return tuple(found for key in keys if (found := parse_range(key)) is not None)


def _is_younger(pushed: bytes, before_ms: int) -> bool:
    return pushed.isdigit() and int(pushed) > before_ms
