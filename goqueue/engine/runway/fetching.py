"""Fetching from a runway: what a worker takes, whom it waits beside, and what it acknowledges."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, cast

import redis

from goqueue.engine.runway.keys import RunwayKeys, lane_of
from goqueue.engine.runway.servers import milliseconds, translated

#: A worker whose fetch came back without an entry says again that it waits within so long.
WAITING_EXTRA_SECONDS = 0.1


class Fetched(NamedTuple):
    """The entries that a fetch took, and where they were.

    Attributes:
        suspects: they are suspects.
        lane: the signature of the lane that they were in; empty where they were none's.
    """

    entries: list[bytes]
    suspects: bool = False
    lane: str = ""


class WaitingEntries(NamedTuple):
    """The numbers of entries that stand on a runway.

    Attributes:
        common: those that any worker of the queue may take.
        lanes: signature → those that only workers of this signature take.
    """

    common: int
    lanes: Mapping[str, int]


class RunwayFetching(RunwayKeys):
    """Takes messages off the runways, and forgets those that are done."""

    def fetch(
        self, queue: str, count: int, *, block_seconds: float | None, signature: str = ""
    ) -> list[bytes]:
        """The entries that `take` takes."""
        return self.take(queue, count, block_seconds=block_seconds, signature=signature).entries

    def take(
        self,
        queue: str,
        count: int,
        *,
        block_seconds: float | None,
        suspects: bool = False,
        waits_as: int | None = None,
        signature: str = "",
        acknowledging: Sequence[str] = (),
    ) -> Fetched:
        """Take up to `count` entries from the head; wait for the first at most so long, None: not at all.

        `suspects`: these first. `waits_as`: while it waits, others may see that this worker has nothing to do
        (`is_waited_for`). `signature`: also from the lane of its workers: from either, so that neither is
        held up. `acknowledging`: forget these messages before, where it does not wait.
        """
        names = ["suspects", "runway"] if suspects else ["runway"]
        lists = {self._key(queue, name): name for name in _with_lanes(names, signature)}
        key, entries = self._pop(queue, list(lists), count, block_seconds, waits_as, signature, acknowledging)
        name, _, lane = lists.get(key, "runway").partition(":")
        return Fetched(entries, suspects=name == "suspects", lane=lane)

    def _pop(
        self,
        queue: str,
        keys: list[str],
        count: int,
        block_seconds: float | None,
        waits_as: int | None,
        signature: str,
        acknowledging: Sequence[str],
    ) -> tuple[str, list[bytes]]:
        """Entries of the first list that has some, and which it is."""
        with translated(self._blocking):
            server = self._blocking.holding(keys[-1])
            if block_seconds is None and acknowledging:
                pipeline = server.pipeline(transaction=False)
                pipeline.hdel(self._key(queue, "messages"), *acknowledging)
                pipeline.lmpop(len(keys), *keys, direction="LEFT", count=count)
                _, answer = pipeline.execute()
            elif block_seconds is None:
                answer = server.lmpop(len(keys), *keys, direction="LEFT", count=count)
            elif waits_as is None:
                answer = server.blmpop(block_seconds, len(keys), *keys, direction="LEFT", count=count)
            else:
                until_ms = milliseconds(server.time()) + int((block_seconds + WAITING_EXTRA_SECONDS) * 1000)
                pipeline = server.pipeline(transaction=False)
                pipeline.hset(self._key(queue, "waiting"), str(waits_as), f"{until_ms} {signature}")
                pipeline.blmpop(block_seconds, len(keys), *keys, direction="LEFT", count=count)
                _, answer = pipeline.execute(raise_on_error=False)
                # A server without memory refuses the note and pops all the same: what it popped is kept.
                if isinstance(answer, Exception):
                    raise answer
        if answer is None:
            return "", []
        key, entries = cast("tuple[bytes | str, list[bytes]]", answer)
        return key.decode() if isinstance(key, bytes) else key, entries

    def is_waited_for(self, queue: str, *, except_worker: int, lane: str = "") -> bool:
        """Tell whether another worker waits for messages of this queue now; with a lane: for its messages."""
        key = self._key(queue, "waiting")
        with translated(self._servers):
            server = self._servers.holding(key)
            pipeline = server.pipeline(transaction=False)
            pipeline.time()
            pipeline.hscan(key, count=1000)
            time, (_, waiting) = pipeline.execute()
            now_ms = milliseconds(time)
            gone = [worker for worker, wait in waiting.items() if int(wait.split(b" ")[0]) < now_ms]
            if gone:
                server.hdel(key, *gone)
        return any(
            int(worker) != except_worker and (not lane or waiting[worker].endswith(b" " + lane.encode()))
            for worker in waiting.keys() - set(gone)
        )

    def waiting_entries(self, queues: Mapping[str, Collection[str]]) -> dict[str, WaitingEntries]:
        """Count what stands on the runways of some queues, and on the lanes of these signatures of each."""
        found: dict[str, WaitingEntries] = {}
        asked: dict[redis.Redis, list[str]] = defaultdict(list)
        with translated(self._servers):
            for queue in queues:
                asked[self._servers.holding(self._key(queue, "runway"))].append(queue)
            for server, those in asked.items():
                pipeline = server.pipeline(transaction=False)
                for queue in those:
                    for signature in (None, *queues[queue]):
                        pipeline.llen(self._key(queue, lane_of("runway", signature)))
                        pipeline.llen(self._key(queue, lane_of("suspects", signature)))
                answers = iter(cast("list[int]", pipeline.execute()))
                for queue in those:
                    common = next(answers) + next(answers)
                    lanes = {signature: next(answers) + next(answers) for signature in queues[queue]}
                    found[queue] = WaitingEntries(common, lanes)
        return found

    def wait_no_more(self, queue: str, worker_id: int) -> None:
        """Say that this worker has something to do."""
        key = self._key(queue, "waiting")
        with translated(self._servers):
            self._servers.holding(key).hdel(key, str(worker_id))

    def acknowledge(self, queue: str, keys: Sequence[str | bytes]) -> None:
        """Forget messages: their attempt is recorded, or they stood for nothing."""
        if keys:
            key = self._key(queue, "messages")
            with translated(self._servers):
                self._servers.holding(key).hdel(key, *cast("list[str]", keys))


def _with_lanes(names: Sequence[str], signature: str) -> list[str]:
    """The lists of these names in order, each with its lane, if there is one: either of both may be first."""
    if not signature:
        return list(names)
    pairs = [[name, lane_of(name, signature)] for name in names]
    for pair in pairs:
        random.shuffle(pair)
    return [name for pair in pairs for name in pair]
