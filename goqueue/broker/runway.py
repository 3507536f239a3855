"""The runway: the few Redis keys that carry ids of jobs that may start now. May be wiped at any moment.

The keys are documented on top of `push.lua`. A message is `"{job_id}.{fence}"` and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from typing import Any, NamedTuple, cast
from weakref import WeakSet

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from goqueue.config import Settings
from goqueue.errors import RedisUnavailableError
from goqueue.jobs import MAX_JOB_ID

PUSH_SCRIPT = resources.files("goqueue.broker").joinpath("push.lua").read_text()

#: The most messages of one call: the script runs alone in Redis, so it must be over quickly.
PUSH_CHUNK = 1000

_MESSAGE = re.compile(rb"([1-9][0-9]{0,18})\.([0-9]{1,9})")


class Message(NamedTuple):
    """What Redis knows about a job: which, and under which fence."""

    job_id: int
    fence: int

    @property
    def key(self) -> str:
        """Its text in Redis."""
        return f"{self.job_id}.{self.fence}"


class Pushed(NamedTuple):
    """What a push did.

    Attributes:
        added: how many messages it added.
        again: how many of those were added again, after they were lost.
        closed: it found the runway full and closed the gate: the dispatcher has to take over.
        known: the first so many of the given messages are in Redis now; the others did not fit.
    """

    added: int
    again: int
    closed: int
    known: int


def connect(settings: Settings, *, timeout_seconds: float | None = None) -> redis.Redis:
    """A Redis client that never retries by itself.

    redis-py's default repeats a command whose answer was lost: a fetch would lose what the first one popped,
    and a push would be repeated after it was already fetched. Whoever may repeat safely does so itself.
    """
    timeout = timeout_seconds or settings.redis_timeout_seconds
    return redis.Redis.from_url(
        settings.redis_url.get_secret_value(),
        socket_timeout=timeout,
        socket_connect_timeout=settings.redis_timeout_seconds,
        socket_keepalive=True,
        health_check_interval=0,
        retry=Retry(NoBackoff(), 0),
        retry_on_error=[],
    )


class PushConnection:
    """A connection of its own on which pushes are sent, and answered later in their order. Not thread-safe.

    Every method raises redis.RedisError when the connection is broken.
    """

    def __init__(self, client: redis.Redis, keys: Callable[[str], list[str]], default_limit: int) -> None:
        self._keys = keys
        self._default_limit = default_limit
        self._closed = False
        self._connection = client.connection_pool.make_connection()
        self._connection.connect()  # type: ignore[no-untyped-call]
        self._connection.send_command("SCRIPT", "LOAD", PUSH_SCRIPT)  # type: ignore[no-untyped-call]
        self._script = self._connection.read_response()

    def send(self, queue: str, messages: Sequence[Message]) -> None:
        """Send a submit of these messages."""
        if self._closed:
            # redis-py would connect again by itself.
            raise redis.ConnectionError("the connection is closed")
        self._connection.send_command(  # type: ignore[no-untyped-call]
            "EVALSHA",
            self._script,
            3,
            *self._keys(queue),
            "submit",
            self._default_limit,
            "",
            "",
            *(message.key for message in messages[:PUSH_CHUNK]),
            check_health=False,
        )

    def has_answer(self) -> bool:
        """Whether an answer can be read without waiting."""
        return bool(self._connection.can_read(timeout=0))

    def read_answer(self) -> Pushed:
        """The answer of the oldest unanswered push."""
        return Pushed(*self._connection.read_response())

    def close(self) -> None:
        """Close it for good; what was sent may or may not have been done."""
        self._closed = True
        self._connection.disconnect()  # type: ignore[no-untyped-call]


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
        self._client = connect(settings)
        # A blocking call is silent for as long as it blocks, so its time-out is longer by that.
        self._blocking = connect(
            settings,
            timeout_seconds=max(settings.fetch_block_seconds, settings.dispatch_idle_seconds)
            + settings.redis_timeout_seconds,
        )
        self._push = self._client.register_script(PUSH_SCRIPT)

    def submit(self, queue: str, messages: Sequence[Message]) -> Pushed:
        """Push messages of rows that were just committed, unless the queue has a backlog."""
        return self._run_push(queue, ["submit", self._default_limit, "", ""], messages[:PUSH_CHUNK])

    def push_connection(self) -> PushConnection:
        """A connection for submits whose answers are read later."""
        with _translated():
            connection = PushConnection(self._client, self._push_keys, self._default_limit)
        self._push_connections.add(connection)
        return connection

    def dispatch(self, queue: str, messages: Sequence[Message], *, limit: int, closed: bool) -> Pushed:
        """Push messages in rank order up to the runway's limit, and open or close the gate for submits.

        A message that is there already is left alone, unless it has waited for longer than
        `lost_push_seconds` and is not in the list any more: then its fetch was lost, and it is added again.
        """
        gate = "1" if closed else "0"
        return self._run_push(queue, ["dispatch", limit, gate, self._lost_push_ms], messages[:PUSH_CHUNK])

    def fetch(self, queue: str, count: int, *, block_seconds: float) -> list[bytes]:
        """Take up to `count` entries from the head, waiting up to `block_seconds` for the first."""
        with _translated():
            answer = self._blocking.blmpop(
                block_seconds, 1, self._key(queue, "runway"), direction="LEFT", count=count
            )
        if answer is None:
            return []
        return cast("list[bytes]", answer[1])

    def put_back(self, queue: str, messages: Sequence[Message]) -> None:
        """Return fetched messages, unclaimed, to the head of the runway, in their order."""
        if messages:
            with _translated():
                self._client.lpush(
                    self._key(queue, "runway"), *(message.key for message in reversed(messages))
                )

    def acknowledge(self, queue: str, keys: Sequence[str | bytes]) -> None:
        """Forget messages: their attempt is recorded, or they stood for nothing."""
        if keys:
            with _translated():
                self._client.hdel(self._key(queue, "messages"), *cast("list[str]", keys))

    def lengths(self, queues: Sequence[str]) -> list[tuple[int, int]]:
        """For each queue, how many entries its runway holds, and how many messages are not acknowledged."""
        with _translated():
            pipeline = self._client.pipeline(transaction=False)
            for queue in queues:
                pipeline.llen(self._key(queue, "runway"))
                pipeline.hlen(self._key(queue, "messages"))
            answers = cast("list[int]", pipeline.execute())
        return list(zip(answers[::2], answers[1::2], strict=True))

    def close_gate(self, queue: str) -> None:
        """Keep submits off the runway and empty it: the queue was paused."""
        with _translated():
            pipeline = self._client.pipeline(transaction=True)
            pipeline.hset(self._key(queue, "gate"), "closed", "1")
            pipeline.delete(self._key(queue, "runway"), self._key(queue, "messages"))
            pipeline.execute()

    def forget_older_than(self, queue: str, seconds: float) -> int:
        """Drop entries of the message hash that their worker could not acknowledge; how many.

        Harmless for those that are still in use: at worst a job is pushed twice, and its claim decides.
        """
        dropped = 0
        with _translated():
            now_seconds, _ = self._client.time()
            before_ms = (now_seconds - seconds) * 1000
            key = self._key(queue, "messages")
            for message, pushed in self._client.hscan_iter(key, count=1000):
                if not pushed.isdigit() or int(pushed) < before_ms:
                    dropped += self._client.hdel(key, message)
        return dropped

    def wake_dispatcher(self) -> None:
        """Tell the dispatcher that there is something to push that no submit could."""
        key = f"{self._namespace}:dispatcher"
        with _translated():
            pipeline = self._client.pipeline(transaction=False)
            pipeline.lpush(key, "1")
            pipeline.ltrim(key, 0, 0)
            pipeline.execute()

    def wait_for_wake(self, seconds: float) -> bool:
        """Wait until somebody wakes the dispatcher, at most this long."""
        # The server looks for waits that are over ten times a second, and one that is just not over yet waits
        # for the next look: a tenth of a second took two.
        timeout = seconds * 0.9
        with _translated():
            return self._blocking.blpop([f"{self._namespace}:dispatcher"], timeout=timeout) is not None

    def ping(self) -> None:
        """Ask Redis for a sign of life."""
        with _translated():
            self._client.ping()

    def eviction_policy(self) -> str | None:
        """Redis's maxmemory-policy, or None where the server does not tell."""
        with _translated():
            try:
                answer = cast("dict[str, str]", self._client.config_get("maxmemory-policy"))
            except redis.ResponseError:
                return None
        return answer.get("maxmemory-policy")

    def close(self) -> None:
        """Close the connections, those for pushes included."""
        for connection in list(self._push_connections):
            connection.close()
        self._client.close()
        self._blocking.close()

    def _run_push(self, queue: str, arguments: list[Any], messages: Sequence[Message]) -> Pushed:
        with _translated():
            answer = self._push(
                keys=self._push_keys(queue), args=[*arguments, *(message.key for message in messages)]
            )
        return Pushed(*cast("list[int]", answer))

    def _push_keys(self, queue: str) -> list[str]:
        return [self._key(queue, "runway"), self._key(queue, "messages"), self._key(queue, "gate")]

    def _key(self, queue: str, name: str) -> str:
        return f"{self._namespace}:{{{queue}}}:{name}"


def parse(entries: Iterable[bytes]) -> tuple[list[Message], list[bytes]]:
    """The messages among runway entries, in order and without repeats, and the entries that are none."""
    messages: dict[Message, None] = {}
    garbage = []
    for entry in entries:
        match = _MESSAGE.fullmatch(entry)
        if match is None or int(match[1]) > MAX_JOB_ID:
            garbage.append(entry)
        else:
            messages[Message(int(match[1]), int(match[2]))] = None
    return list(messages), garbage


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except redis.RedisError as error:
        raise RedisUnavailableError(f"Redis: {error}") from error
