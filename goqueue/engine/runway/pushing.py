"""Pushing to a runway: by submits, by the dispatcher, and by whoever gives jobs back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast
from weakref import WeakSet

import redis

from goqueue.config.settings import Settings
from goqueue.engine.runway.keys import RunwayKeys, lane_of
from goqueue.engine.runway.messages import Message, Pushed, ReadyRange
from goqueue.engine.runway.push_connection import PUSH_CHUNK, PUSH_NAME, PUSH_SCRIPT, PushConnection
from goqueue.engine.runway.servers import translated

#: A message that stands on a lane for so long, and that nobody has taken, is offered on further lanes.
OFFERED_MS = 25


class RunwayPushing(RunwayKeys):
    """Pushes messages of jobs that may start."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._push_connections: WeakSet[PushConnection] = WeakSet()

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
        """Push, as `dispatch` does, what not all workers can run to the lane of those with one signature.

        What others can run as well, and have not taken within `OFFERED_MS`, is on several lanes.
        """
        arguments = ["lane", limit, "", min(OFFERED_MS, self._lost_push_ms)]
        return self._run_push(queue, arguments, messages[:PUSH_CHUNK], to=lane_of("runway", signature))

    def dispatch_suspects(
        self, queue: str, messages: Sequence[Message], *, limit: int, signature: str | None = None
    ) -> Pushed:
        """Push suspects, as `dispatch`, to where each process takes one at a time, before all others.

        `signature`: only to workers of that one.
        """
        arguments = ["suspects", limit, "", self._lost_push_ms]
        return self._run_push(queue, arguments, messages[:PUSH_CHUNK], to=lane_of("suspects", signature))

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
        return self._run_push(queue, arguments, messages[:PUSH_CHUNK], to=lane_of("runway", lane))

    def dispatch_ranges(self, queue: str, ranges: Sequence[ReadyRange], *, limit: int) -> None:
        """Push ranges of a backlog; one that is known already is left alone. The gate closes."""
        self._run_push(queue, ["ranges", limit, "1", ""], ranges, also=("ranges",))

    def put_back(
        self,
        queue: str,
        messages: Sequence[Message | ReadyRange],
        *,
        suspects: bool = False,
        lane: str = "",
    ) -> None:
        """Return what was fetched, unclaimed, to the head of where it was, in its order."""
        if messages:
            key = self._key(queue, lane_of("suspects" if suspects else "runway", lane))
            with translated(self._servers):
                self._servers.holding(key).lpush(key, *(message.key for message in reversed(messages)))

    def _run_push(
        self,
        queue: str,
        arguments: list[Any],
        messages: Sequence[Message | ReadyRange],
        *,
        to: str = "runway",
        also: Sequence[str] = (),
    ) -> Pushed:
        keys = [self._key(queue, to), *self._push_keys(queue)[1:]]
        keys += [self._key(queue, name) for name in also]
        values = [*keys, *arguments, *(message.key for message in messages)]
        with translated(self._servers):
            server = self._servers.holding(keys[0])
            try:
                answer = server.evalsha(PUSH_NAME, len(keys), *values)
            except redis.exceptions.NoScriptError:
                # A server that is new, or was restarted. It did nothing, and keeps the script from here on.
                answer = server.eval(PUSH_SCRIPT, len(keys), *values)
        return Pushed(*cast("list[int]", answer))
