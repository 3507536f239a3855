"""The runway: the few Redis keys that carry ids of jobs that may start now. May be wiped at any moment.

The keys are documented on top of `push.lua`.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple, cast
from weakref import WeakSet

import redis

from goqueue.config.settings import Settings
from goqueue.engine.runway.messages import Message, Pushed, parse
from goqueue.engine.runway.push_connection import PUSH_CHUNK, PUSH_NAME, PUSH_SCRIPT, PushConnection
from goqueue.engine.runway.servers import open_servers, translated

__all__ = ["PUSH_CHUNK", "Fetched", "Message", "PushConnection", "Pushed", "Runway", "parse"]


#: A worker whose fetch came back without an entry says again that it waits within so long.
WAITING_EXTRA_SECONDS = 0.1

#: How long sending a push may take, which waits for room in the system's buffers at most.
PUSH_TIMEOUT_SECONDS = 0.25


class Fetched(NamedTuple):
    """What a fetch took.

    Attributes:
        suspects: they are suspects.
        lane: the signature of the lane that they were in; empty where they were none's.
    """

    entries: list[bytes]
    suspects: bool = False
    lane: str = ""


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
        # Nobody waits for these: what is not sent at once is left to the dispatcher.
        self._pushing = open_servers(
            settings, timeout_seconds=min(PUSH_TIMEOUT_SECONDS, settings.redis_timeout_seconds)
        )
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
        connection = PushConnection(self._pushing, self._push_keys, self._default_limit)
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
        arguments = ["dispatch", limit, "", self._lost_push_ms]
        return self._run_push(queue, arguments, messages[:PUSH_CHUNK], to=_lane("runway", signature))

    def dispatch_suspects(
        self, queue: str, messages: Sequence[Message], *, limit: int, signature: str | None = None
    ) -> Pushed:
        """Push suspects, as `dispatch`, to where each process takes one at a time, before all others.

        `signature`: only to workers of that one.
        """
        arguments = ["suspects", limit, "", self._lost_push_ms]
        return self._run_push(queue, arguments, messages[:PUSH_CHUNK], to=_lane("suspects", signature))

    def remove(self, queue: str) -> None:
        """Forget everything of a queue that is none any more."""
        keys = [self._key(queue, name) for name in ("runway", "suspects", "messages", "gate", "waiting")]
        with translated(self._servers):
            self._servers.holding(keys[0]).delete(*keys)

    def remove_lane(self, queue: str, signature: str) -> None:
        """Forget a lane whose workers are gone; its jobs are pushed to others that can run them."""
        keys = [self._key(queue, _lane(name, signature)) for name in ("runway", "suspects")]
        with translated(self._servers):
            self._servers.holding(keys[0]).delete(*keys)

    def push_to_front(self, queue: str, messages: Sequence[Message]) -> None:
        """Push messages of rows that had started once: whoever is free takes them before all others."""
        for start in range(0, len(messages), PUSH_CHUNK):
            self._run_push(queue, ["front", "", "", ""], messages[start : start + PUSH_CHUNK])

    def push_returned(
        self, queue: str, messages: Sequence[Message], *, wanted: bool, lane: str = ""
    ) -> Pushed:
        """Push messages of jobs that were claimed and given back, to the head of the runway, in their order.

        They were next. `wanted`: a worker waits for them, so all go there; else as many as the runway holds.
        `lane`: they go to the lane of workers of this signature.
        """
        arguments = ["return", self._default_limit, "1" if wanted else "0", ""]
        return self._run_push(queue, arguments, messages[:PUSH_CHUNK], to=_lane("runway", lane))

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
    ) -> Fetched:
        """Take up to `count` entries from the head; wait for the first at most so long, None: not at all.

        `suspects`: these first. `waits_as`: while it waits, others may see that this worker has nothing to do
        (`is_waited_for`). `signature`: also from the lane of its workers: from either, so that neither is
        held up.
        """
        names = ["suspects", "runway"] if suspects else ["runway"]
        lists = {self._key(queue, name): name for name in _with_lanes(names, signature)}
        key, entries = self._pop(queue, list(lists), count, block_seconds, waits_as, signature)
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
    ) -> tuple[str, list[bytes]]:
        """Entries of the first list that has some, and which it is."""
        with translated(self._blocking):
            server = self._blocking.holding(keys[-1])
            if block_seconds is None:
                answer = server.lmpop(len(keys), *keys, direction="LEFT", count=count)
            elif waits_as is None:
                answer = server.blmpop(block_seconds, len(keys), *keys, direction="LEFT", count=count)
            else:
                until_ms = _milliseconds(server.time()) + int((block_seconds + WAITING_EXTRA_SECONDS) * 1000)
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
        """Whether another worker waits for messages of this queue now; with a lane: for those of the lane."""
        key = self._key(queue, "waiting")
        with translated(self._servers):
            server = self._servers.holding(key)
            pipeline = server.pipeline(transaction=False)
            pipeline.time()
            pipeline.hscan(key, count=1000)
            time, (_, waiting) = pipeline.execute()
            now_ms = _milliseconds(time)
            gone = [worker for worker, wait in waiting.items() if int(wait.split(b" ")[0]) < now_ms]
            if gone:
                server.hdel(key, *gone)
        return any(
            int(worker) != except_worker and (not lane or waiting[worker].endswith(b" " + lane.encode()))
            for worker in waiting.keys() - set(gone)
        )

    def wait_no_more(self, queue: str, worker_id: int) -> None:
        """Say that this worker has something to do."""
        key = self._key(queue, "waiting")
        with translated(self._servers):
            self._servers.holding(key).hdel(key, str(worker_id))

    def put_back(
        self, queue: str, messages: Sequence[Message], *, suspects: bool = False, lane: str = ""
    ) -> None:
        """Return fetched messages, unclaimed, to the head of where they were, in their order."""
        if messages:
            key = self._key(queue, _lane("suspects" if suspects else "runway", lane))
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
            pipeline.delete(*(self._key(queue, name) for name in ("runway", "suspects", "messages")))
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
        self._pushing.close()
        self._blocking.close()

    def _run_push(
        self, queue: str, arguments: list[Any], messages: Sequence[Message], *, to: str = "runway"
    ) -> Pushed:
        keys = [self._key(queue, to), *self._push_keys(queue)[1:]]
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

    def _key(self, queue: str, name: str) -> str:
        # A cluster hashes the text between the first braces, and all of the key where that text is empty. No
        # name of a queue has a control character.
        tag = f"\x7f{queue}" if queue.startswith("}") else queue
        return f"{self._namespace}:{{{tag}}}:{name}"


def _lane(name: str, signature: str | None) -> str:
    """The list of this name for workers of one signature, or for all."""
    return f"{name}:{signature}" if signature else name


def _with_lanes(names: Sequence[str], signature: str) -> list[str]:
    """The lists of these names in order, each with its lane, if there is one: either of both may be first."""
    if not signature:
        return list(names)
    pairs = [[name, _lane(name, signature)] for name in names]
    for pair in pairs:
        random.shuffle(pair)
    return [name for pair in pairs for name in pair]


def _milliseconds(time: tuple[int, int]) -> int:
    """What Redis's TIME says, in milliseconds."""
    seconds, microseconds = time
    return seconds * 1000 + microseconds // 1000


def _eviction_policy_of(server: redis.Redis) -> str | None:
    try:
        answer = cast("dict[str, str]", server.config_get("maxmemory-policy"))
    except redis.ResponseError:
        return None
    return answer.get("maxmemory-policy")
