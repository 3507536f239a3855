"""The runway: the few Redis keys that carry ids of jobs that may start now. May be wiped at any moment.

The keys are documented on top of `push.lua`.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, cast
from weakref import WeakSet

import redis

from goqueue.broker.messages import Message, Pushed, parse
from goqueue.broker.push_connection import PUSH_CHUNK, PUSH_NAME, PUSH_SCRIPT, PushConnection
from goqueue.broker.redis_servers import open_servers, translated
from goqueue.config import Settings

__all__ = ["PUSH_CHUNK", "Message", "PushConnection", "Pushed", "Runway", "parse"]


class Runway:
    """Pushes to, fetches from and acknowledges on the runways of all queues.

    Every method raises RedisUnavailableError when Redis does not answer; what the lost call did is then
    unknown, and doing it again is always safe.
    """

    def __init__(self, settings: Settings) -> None:
        self._namespace = settings.namespace
        self._default_limit = settings.runway_min
        self._lost_push_ms = int(settings.lost_push_seconds * 1000)
        self._push_connections: WeakSet[PushConnection] = WeakSet()
        self._servers = open_servers(settings)
        # A blocking call is silent for as long as it blocks, so its time-out is longer by that.
        self._blocking = open_servers(
            settings,
            timeout_seconds=max(settings.fetch_block_seconds, settings.dispatch_idle_seconds)
            + settings.redis_timeout_seconds,
        )

    def submit(self, queue: str, messages: Sequence[Message]) -> Pushed:
        """Push messages of rows that were just committed, unless the queue has a backlog."""
        return self._run_push(queue, ["submit", self._default_limit, "", ""], messages[:PUSH_CHUNK])

    def push_connection(self) -> PushConnection:
        """A connection for submits whose answers are read later."""
        connection = PushConnection(self._servers, self._push_keys, self._default_limit)
        self._push_connections.add(connection)
        return connection

    def dispatch(self, queue: str, messages: Sequence[Message], *, limit: int, closed: bool) -> Pushed:
        """Push messages in rank order up to the runway's limit, and open or close the gate for submits.

        A message that is there already is left alone, unless it has waited for longer than
        `lost_push_seconds` and is not in the list any more: then its fetch was lost, and it is added again.
        """
        gate = "1" if closed else "0"
        return self._run_push(queue, ["dispatch", limit, gate, self._lost_push_ms], messages[:PUSH_CHUNK])

    def dispatch_to(self, queue: str, signature: str, messages: Sequence[Message], *, limit: int) -> Pushed:
        """Push, as `dispatch` does, what only workers of one signature can run to the lane of these."""
        lane = self._lane_key(queue, signature)
        keys = [lane, *self._push_keys(queue)[1:]]
        return self._run_push(
            queue, ["dispatch", limit, "", self._lost_push_ms], messages[:PUSH_CHUNK], keys=keys
        )

    def remove_lane(self, queue: str, signature: str) -> None:
        """Forget a lane whose workers are gone; its jobs are pushed to others that can run them."""
        lane = self._lane_key(queue, signature)
        with translated(self._servers):
            self._servers.holding(lane).delete(lane)

    def fetch(self, queue: str, count: int, *, block_seconds: float, signature: str = "") -> list[bytes]:
        """Take up to `count` entries from the head, waiting up to `block_seconds` for the first.

        With a signature also from the lane of its workers: from either, so that neither is held up.
        """
        key = self._key(queue, "runway")
        keys = [key, self._lane_key(queue, signature)] if signature else [key]
        random.shuffle(keys)
        with translated(self._blocking):
            server = self._blocking.holding(key)
            answer = server.blmpop(block_seconds, len(keys), *keys, direction="LEFT", count=count)
        if answer is None:
            return []
        return cast("list[bytes]", answer[1])

    def put_back(self, queue: str, messages: Sequence[Message]) -> None:
        """Return fetched messages, unclaimed, to the head of the runway, in their order."""
        if messages:
            key = self._key(queue, "runway")
            with translated(self._servers):
                self._servers.holding(key).lpush(key, *(message.key for message in reversed(messages)))

    def acknowledge(self, queue: str, keys: Sequence[str | bytes]) -> None:
        """Forget messages: their attempt is recorded, or they stood for nothing."""
        if keys:
            key = self._key(queue, "messages")
            with translated(self._servers):
                self._servers.holding(key).hdel(key, *cast("list[str]", keys))

    def lengths(self, queues: Sequence[str]) -> list[tuple[int, int]]:
        """For each queue, how many entries its runway holds, and how many messages are not acknowledged."""
        found: dict[str, tuple[int, int]] = {}
        with translated(self._servers):
            for server, those in self._by_server(queues).items():
                pipeline = server.pipeline(transaction=False)
                for queue in those:
                    pipeline.llen(self._key(queue, "runway"))
                    pipeline.hlen(self._key(queue, "messages"))
                answers = iter(cast("list[int]", pipeline.execute()))
                found |= {queue: (next(answers), next(answers)) for queue in those}
        return [found[queue] for queue in queues]

    def close_gate(self, queue: str) -> None:
        """Keep submits off the runway and empty it: the queue was paused."""
        with translated(self._servers):
            pipeline = self._servers.holding(self._key(queue, "gate")).pipeline(transaction=True)
            pipeline.hset(self._key(queue, "gate"), "closed", "1")
            pipeline.delete(self._key(queue, "runway"), self._key(queue, "messages"))
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
        """Redis's maxmemory-policy, or None where the server does not tell; in a cluster, the worst."""
        with translated(self._servers):
            policies = {_eviction_policy_of(server) for server in self._servers.each()}
        return max(policies, key=lambda policy: policy not in {None, "noeviction"})

    def close(self) -> None:
        """Close the connections, those for pushes included."""
        for connection in list(self._push_connections):
            connection.close()
        self._servers.close()
        self._blocking.close()

    def _run_push(
        self,
        queue: str,
        arguments: list[Any],
        messages: Sequence[Message],
        *,
        keys: list[str] | None = None,
    ) -> Pushed:
        keys = keys or self._push_keys(queue)
        values = [*keys, *arguments, *(message.key for message in messages)]
        with translated(self._servers):
            server = self._servers.holding(keys[0])
            try:
                answer = server.evalsha(PUSH_NAME, len(keys), *values)
            except redis.exceptions.NoScriptError:
                # A server that is new, or was restarted. It did nothing, and keeps the script from here on.
                answer = server.eval(PUSH_SCRIPT, len(keys), *values)
        return Pushed(*cast("list[int]", answer))

    def _by_server(self, queues: Sequence[str]) -> dict[redis.Redis, list[str]]:
        found = defaultdict[redis.Redis, list[str]](list)
        for queue in dict.fromkeys(queues):
            found[self._servers.holding(self._key(queue, "runway"))].append(queue)
        return found

    @property
    def _dispatcher_key(self) -> str:
        return f"{self._namespace}:dispatcher"

    def _push_keys(self, queue: str) -> list[str]:
        return [self._key(queue, "runway"), self._key(queue, "messages"), self._key(queue, "gate")]

    def _lane_key(self, queue: str, signature: str) -> str:
        return self._key(queue, f"runway:{signature}")

    def _key(self, queue: str, name: str) -> str:
        # A cluster hashes the text between the first braces, and all of the key where that text is empty. No
        # name of a queue has a control character.
        tag = f"\x7f{queue}" if queue.startswith("}") else queue
        return f"{self._namespace}:{{{tag}}}:{name}"


def _eviction_policy_of(server: redis.Redis) -> str | None:
    try:
        answer = cast("dict[str, str]", server.config_get("maxmemory-policy"))
    except redis.ResponseError:
        return None
    return answer.get("maxmemory-policy")
