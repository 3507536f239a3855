"""GoQueue on Redis behind Sentinel and on a Redis Cluster, through a failover of each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import SecretStr
from redis.crc import key_slot

import goqueue
from goqueue.config.settings import Settings
from goqueue.engine.runway.messages import Message
from goqueue.engine.runway.runway import Runway
from goqueue.errors import RedisUnavailableError
from goqueue.jobs import JobStatus
from tests.support.engine import QUICK, Engine, process_of
from tests.support.servers.redis_groups import ClusterGroup, SentinelGroup
from tests.support.waiting import wait_until

QUEUES = [f"spread{number}" for number in range(6)]

#: It knows the names of keys, and connects to nothing.
RUNWAY = Runway(Settings(namespace="goqueue"))

#: Names of queues as the API takes them.
NAMES = st.text(
    st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("{}"), min_size=1, max_size=20
)

#: What a failover takes at most: half a second of silence, a vote, and a new connection.
FAILOVER_SECONDS = 20.0


@pytest.fixture(scope="module")
def sentinels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SentinelGroup]:
    """A primary, a replica and three Sentinels."""
    with SentinelGroup(tmp_path_factory.mktemp("sentinels")) as group:
        yield group


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterGroup]:
    """A cluster of three primaries and a replica."""
    with ClusterGroup(tmp_path_factory.mktemp("cluster")) as group:
        yield group


def on(settings: Settings, url: str) -> Settings:
    """The test's settings with another Redis, and little patience, so that a failover is short."""
    changes: dict[str, Any] = {**QUICK, "redis_url": SecretStr(url), "redis_timeout_seconds": 0.5}
    return settings.model_copy(update=changes)


def runs_through_a_failover(settings: Settings, kill: Any) -> None:
    """Jobs that are created before, during and after the loss of a server all complete, in one attempt."""
    with process_of(settings) as broker:

        @goqueue.actor
        def double(value: int) -> int:
            return value * 2

        for queue in QUEUES:
            broker.declare_queue(queue)

        def create(count: int) -> list[int]:
            return [
                goqueue.enqueue(double, {"value": number}, queue=queue)
                for number in range(count)
                for queue in QUEUES
            ]

        with Engine(broker) as engine:
            for job_id in create(1):
                engine.wait_for(job_id)
            during = create(5)
            kill()
            during += create(5)
            wait_until(
                lambda: not engine.rows("SELECT FROM jobs WHERE status <> 'completed' LIMIT 1"),
                FAILOVER_SECONDS,
                "all jobs to complete",
            )
            after = create(1)
            for job_id in during + after:
                job = engine.wait_for(job_id, JobStatus.COMPLETED)
                assert job.attempts == 1
            assert {length for length, _ in broker.runway.lengths(QUEUES)} == {0}


def test_a_failover_by_sentinel_loses_nothing(settings: Settings, sentinels: SentinelGroup) -> None:
    """When the primary dies, the engine goes on with the one that the Sentinels have promoted."""
    runs_through_a_failover(on(settings, sentinels.url), sentinels.primary.kill)


def test_a_failover_in_a_cluster_loses_nothing(settings: Settings, cluster: ClusterGroup) -> None:
    """When the primary of some queues dies, they go on with its replica; the others do not notice."""
    dies = [queue for queue in QUEUES if cluster.node_of(f"x:{{{queue}}}") == 0]
    assert dies
    assert set(dies) < set(QUEUES)
    runs_through_a_failover(on(settings, cluster.url), cluster.nodes[0].kill)


def test_a_cluster_carries_every_operation(settings: Settings, cluster: ClusterGroup) -> None:
    """Push, fetch, put back, acknowledge, gates and wakes work on the primary that holds the queue."""
    runway = Runway(on(settings, cluster.url))
    try:
        runway.ping()
        assert runway.eviction_policy() == "noeviction"
        for queue in QUEUES:
            assert runway.dispatch(queue, [Message(1, 0), Message(2, 0)], limit=9, closed=False).added == 2
            assert runway.fetch(queue, 1, block_seconds=0.1) == [b"1.0"]
            runway.put_back(queue, [Message(1, 0)])
            runway.acknowledge(queue, ["2.0"])
        assert runway.lengths(QUEUES) == [(2, 1)] * len(QUEUES)
        pushes = runway.push_connection()
        for queue in QUEUES:
            pushes.send(queue, [Message(3, 0)])
        assert [pushes.read_answer().added for _ in QUEUES] == [1] * len(QUEUES)
        for queue in QUEUES:
            assert runway.forget_older_than(queue, -10) == 2
            runway.close_gate(queue)
            assert runway.submit(queue, [Message(4, 0)]).added == 0
        runway.wake_dispatcher()
        assert runway.wait_for_wake(0.1)
    finally:
        runway.close()


def test_a_cluster_is_not_asked_before_the_first_use(settings: Settings) -> None:
    """A process starts without its cluster; each operation then says that it is not there."""
    runway = Runway(on(settings, "redis+cluster://127.0.0.1:1,127.0.0.1:2"))
    try:
        push = runway.push_connection()
        operations = (
            runway.ping,
            runway.wake_dispatcher,
            lambda: runway.lengths(["a"]),
            lambda: push.send("a", [Message(1, 0)]),
        )
        for operation in operations:
            with pytest.raises(RedisUnavailableError):
                operation()
    finally:
        runway.close()


@given(queue=NAMES)
@example(queue="}")
@example(queue="}{")
@example(queue="{a}b")
@example(queue="{}")
def test_all_keys_of_a_queue_are_in_one_slot(queue: str) -> None:
    """Whatever a queue is called, a script over its keys touches one slot."""
    keys = keys_of(queue)
    assert len({key_slot(key.encode()) for key in keys}) == 1


@given(first=NAMES, second=NAMES)
@example(first="}a", second="\u007f}a"[1:])
def test_no_two_queues_share_a_key(first: str, second: str) -> None:
    """Two names are two sets of keys."""
    assert first == second or not set(keys_of(first)) & set(keys_of(second))


def keys_of(queue: str) -> list[str]:
    """The keys that the script gets."""
    return RUNWAY._push_keys(queue)  # noqa: SLF001  (the keys of a script)
