"""The runway: the few Redis keys that carry ids of jobs that may start now. May be wiped at any moment.

The keys are documented on top of `push.lua`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import cast

import redis

from goqueue.engine.runway.fetching import Fetched, RunwayFetching
from goqueue.engine.runway.keys import lane_of
from goqueue.engine.runway.messages import Entries, Message, Pushed, ReadyRange, parse
from goqueue.engine.runway.push_connection import PUSH_CHUNK, PushConnection
from goqueue.engine.runway.pushing import RunwayPushing
from goqueue.engine.runway.ranges import RunwayContents, RunwayRanges
from goqueue.engine.runway.servers import translated

__all__ = [
    "PUSH_CHUNK",
    "Entries",
    "Fetched",
    "Message",
    "PushConnection",
    "Pushed",
    "ReadyRange",
    "Runway",
    "parse",
]


class Runway(RunwayPushing, RunwayFetching, RunwayRanges):
    """Pushes to, fetches from and acknowledges on the runways of all queues.

    Every method raises RedisUnavailableError when Redis does not answer; what the lost call did is then
    unknown, and doing it again is always safe.
    """

    def remove(self, queue: str) -> None:
        """Forget everything of a queue that is none any more."""
        names = ("runway", "suspects", "messages", "gate", "waiting", "ranges")
        keys = [self._key(queue, name) for name in names]
        with translated(self._servers):
            self._servers.holding(keys[0]).delete(*keys)

    def remove_lane(self, queue: str, signature: str) -> None:
        """Forget a lane whose workers are gone; its jobs are pushed to others that can run them."""
        keys = [self._key(queue, lane_of(name, signature)) for name in ("runway", "suspects")]
        with translated(self._servers):
            self._servers.holding(keys[0]).delete(*keys)

    def remove_all(self, queues: Sequence[str], signatures: Sequence[str]) -> None:
        """Forget everything of a namespace that is none any more: of these queues, and their lanes."""
        for queue in queues:
            self.remove(queue)
            for signature in signatures:
                self.remove_lane(queue, signature)
        with translated(self._servers):
            self._servers.holding(self._dispatcher_key).delete(self._dispatcher_key)

    def lengths(self, queues: Sequence[str]) -> list[tuple[int, int]]:
        """Count for each queue the entries of its runway, and the messages that are not acknowledged."""
        return [(found.entries, found.known) for found in self.contents(queues)]

    def contents(self, queues: Sequence[str]) -> list[RunwayContents]:
        """Tell for each queue what stands on its runway, and what of it is not acknowledged."""
        found: dict[str, RunwayContents] = {}
        with translated(self._servers):
            for server, those in self._by_server(queues).items():
                pipeline = server.pipeline(transaction=False)
                for queue in those:
                    pipeline.llen(self._key(queue, "runway"))
                    pipeline.hlen(self._key(queue, "messages"))
                    # A user of Redis that the release before was content with may not do HKEYS.
                    pipeline.hscan(self._key(queue, "ranges"), count=1000)
                answers = iter(pipeline.execute())
                for queue in those:
                    found[queue] = RunwayContents(
                        next(answers), next(answers), self._read_ranges(next(answers)[1])
                    )
        return [found[queue] for queue in queues]

    def close_gate(self, queue: str) -> None:
        """Keep submits off the runway and empty it: the queue was paused."""
        with translated(self._servers):
            pipeline = self._servers.holding(self._key(queue, "gate")).pipeline(transaction=True)
            pipeline.hset(self._key(queue, "gate"), "closed", "1")
            names = ("runway", "suspects", "messages", "ranges")
            pipeline.delete(*(self._key(queue, name) for name in names))
            pipeline.execute()

    def forget_older_than(self, queue: str, seconds: float) -> int:
        """Drop entries of the message hash that their worker could not acknowledge; how many.

        Harmless for those that are still in use: at worst a job is pushed twice, and its claim decides.
        """
        dropped = 0
        key = self._key(queue, "messages")
        with translated(self._servers):
            server = self._servers.holding(key)
            now_seconds, _ = server.time()
            before_ms = (now_seconds - seconds) * 1000
            for message, pushed in server.hscan_iter(key, count=1000):
                if not pushed.isdigit() or int(pushed) < before_ms:
                    dropped += server.hdel(key, message)
        return dropped

    def wake_dispatcher(self) -> None:
        """Tell the dispatcher that there is something to push that no submit could."""
        key = self._dispatcher_key
        with translated(self._servers):
            pipeline = self._servers.holding(key).pipeline(transaction=False)
            pipeline.lpush(key, "1")
            pipeline.ltrim(key, 0, 0)
            pipeline.execute()

    def wait_for_wake(self, seconds: float) -> bool:
        """Wait until somebody wakes the dispatcher, at most this long."""
        # The server looks for waits that are over ten times a second, and one that is just not over yet waits
        # for the next look: a tenth of a second took two.
        timeout = seconds * 0.9
        key = self._dispatcher_key
        with translated(self._blocking):
            return self._blocking.holding(key).blpop([key], timeout=timeout) is not None

    def ping(self) -> None:
        """Ask Redis for a sign of life; in a cluster, every primary."""
        with translated(self._servers):
            for server in self._servers.each():
                server.ping()

    def eviction_policy(self) -> str | None:
        """Read Redis's maxmemory-policy; None where the server does not tell; in a cluster, the worst."""
        with translated(self._servers):
            policies = {_eviction_policy_of(server) for server in self._servers.each()}
        return max(policies, key=lambda policy: policy not in {None, "noeviction"})

    def close(self) -> None:
        """Close the connections, those for pushes included."""
        for connection in list(self._push_connections):
            connection.close()
        self._servers.close()
        self._pushing.close()
        self._blocking.close()

    def _by_server(self, queues: Sequence[str]) -> dict[redis.Redis, list[str]]:
        found = defaultdict[redis.Redis, list[str]](list)
        for queue in dict.fromkeys(queues):
            found[self._servers.holding(self._key(queue, "runway"))].append(queue)
        return found


def _eviction_policy_of(server: redis.Redis) -> str | None:
    try:
        answer = cast("dict[str, str]", server.config_get("maxmemory-policy"))
    except redis.ResponseError:
        return None
    return answer.get("maxmemory-policy")
