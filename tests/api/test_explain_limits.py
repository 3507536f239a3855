"""GET /jobs/{id}/explain: the limits of queues, keys and types, each set up for real."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from falcon import testing

from goqueue.db.database import Database
from goqueue.engine import queue_rows as queue_store
from goqueue.jobs import Job
from goqueue.limits import admission_rows as admission_store
from goqueue.limits import breaker_rows as breaker_store
from goqueue.limits import queue_setting_rows as queue_settings
from goqueue.limits import rate_rows as rate_store
from goqueue.limits import type_setting_rows as type_settings
from goqueue.limits.breaker_rules import BreakerChange
from goqueue.limits.rules import Candidate
from goqueue.limits.settings import (
    Breaker,
    BreakerState,
    KeyLimits,
    QueueLimits,
    RateAlgorithm,
    RateLimit,
    TypeLimits,
)
from tests.support.factories import JobFactory
from tests.support.http.explanations import asked, codes, evidence_of, seconds_from
from tests.support.shared_database import emptied_database, module_settings

settings = module_settings
database = emptied_database

Limit = Callable[..., None]

FAR = datetime(2100, 1, 1, tzinfo=UTC)
WINDOW = RateLimit(2, 60.0)
BUCKET = RateLimit(2, 60.0, RateAlgorithm.TOKEN_BUCKET)


@pytest.fixture(autouse=True)
def worker(make_job: JobFactory) -> int:
    """A live worker that listens to the queue of the tests; it holds what runs."""
    return make_job.worker_id


@pytest.fixture
def limit(database: Database) -> Limit:
    """Sets the limits of the queue of the tests."""

    def limit(keys: dict[str, KeyLimits] | None = None, **limits: Any) -> None:
        with database.transaction() as connection:
            queue_store.ensure(connection, ["default"])
            queue_settings.set_limits(connection, "default", QueueLimits(**limits))
            for key, own in (keys or {}).items():
                queue_settings.set_key(connection, "default", key, own)

    return limit


def limit_type(database: Database, limits: TypeLimits) -> None:
    """Set the limits of the type of the tests."""
    with database.transaction() as connection:
        type_settings.locked(connection, "noop")
        type_settings.set_limits(connection, "noop", limits)


def move_breaker(database: Database, state: BreakerState, reason: str) -> None:
    """Move the breaker of the type of the tests."""
    with database.transaction() as connection:
        breaker_store.moved_by_hand(connection, "noop", BreakerChange(state, reason))


def start(database: Database, job: Job, seconds_ago: float | None) -> None:
    """A rate limit allowed the job's start, which was so long ago; None: it has not started."""
    candidate = Candidate(
        job.id, job.fence, job.created_at, job.type, job.concurrency_key or "", job.rate_cost
    )
    with database.transaction() as connection:
        rate_store.grant(connection, job.queue, [candidate])
        if seconds_ago is not None:
            connection.exec_driver_sql(
                "UPDATE rate_grants SET used_at = now() - make_interval(secs => %(s)s) WHERE job_id = %(id)s",
                {"s": seconds_ago, "id": job.id},
            )


# Concurrency


def test_too_few_slots_are_free_for_what_it_takes(
    client: testing.TestClient, make_job: JobFactory, limit: Limit
) -> None:
    """A job that takes several slots waits for so many, though one is free; one that takes one does not."""
    limit(concurrency=4)
    make_job("running", limit_cost=3)
    answer = asked(client, make_job(limit_cost=2))
    evidence = evidence_of(answer, "limit_reached")
    assert (evidence["number"], evidence["held"], evidence["cost"]) == (4, 3, 2)
    assert "it takes 2 slots" in answer["summary"]
    assert "limit_reached" not in codes(asked(client, make_job()))


def test_the_limit_of_its_queue_is_reached(
    client: testing.TestClient, make_job: JobFactory, limit: Limit
) -> None:
    """A queue's limit is told with its number and with the jobs that hold its slots."""
    limit(concurrency=2)
    holders = [make_job("running"), make_job(admitted=True)]
    answer = asked(client, make_job())
    assert codes(answer) == ["limit_reached", "jobs_ahead"]
    evidence = evidence_of(answer, "limit_reached")
    assert (evidence["limit"], evidence["name"], evidence["number"], evidence["held"]) == (
        "queue",
        "default",
        2,
        2,
    )
    assert [(held["id"], held["status"]) for held in evidence["held_by"]] == [
        (holders[0].id, "running"),
        (holders[1].id, "let_in"),
    ]
    assert abs(seconds_from(evidence["held_by"][0]["since"])) < 10
    assert f"{holders[0].id} (running)" in answer["summary"]


def test_at_most_twenty_holders_are_told(
    client: testing.TestClient, make_job: JobFactory, limit: Limit
) -> None:
    """Of many holders the first twenty are told, and how many there are."""
    limit(concurrency=22)
    holders = [make_job("running").id for _ in range(22)]
    evidence = evidence_of(asked(client, make_job()), "limit_reached")
    assert evidence["held"] == 22
    assert [held["id"] for held in evidence["held_by"]] == holders[:20]


@pytest.mark.parametrize(
    ("keys", "number"), [({}, 1), ({"a": KeyLimits(concurrency=2)}, 2)], ids=["common", "own"]
)
def test_the_limit_of_its_key_is_reached(
    client: testing.TestClient,
    make_job: JobFactory,
    limit: Limit,
    keys: dict[str, KeyLimits],
    number: int,
) -> None:
    """A key's limit, its own or that of every key, is held only by jobs of the key."""
    limit(keys, key_concurrency=1)
    holders = [make_job("running", concurrency_key="a").id for _ in range(number)]
    make_job("running", concurrency_key="b")
    answer = asked(client, make_job(concurrency_key="a"))
    evidence = evidence_of(answer, "limit_reached")
    assert (evidence["limit"], evidence["name"], evidence["number"]) == ("key", "a", number)
    assert [held["id"] for held in evidence["held_by"]] == holders
    assert "limit_reached" not in codes(asked(client, make_job(concurrency_key="c")))
    assert "limit_reached" not in codes(asked(client, make_job()))


def test_the_limit_of_its_type_is_reached(
    client: testing.TestClient, make_job: JobFactory, database: Database
) -> None:
    """A type's limit counts its jobs in every queue."""
    limit_type(database, TypeLimits(concurrency=1))
    holder = make_job("running", queue="elsewhere")
    evidence = evidence_of(asked(client, make_job()), "limit_reached")
    assert (evidence["limit"], evidence["name"]) == ("type", "noop")
    assert [held["id"] for held in evidence["held_by"]] == [holder.id]
    assert codes(asked(client, make_job(type="other", rank=FAR - timedelta(days=365 * 100)))) == [
        "starting_now"
    ]


def test_who_was_let_in_has_passed_the_limits(
    client: testing.TestClient, make_job: JobFactory, limit: Limit
) -> None:
    """A job that holds a slot itself is on its way, however full the limit is."""
    limit(concurrency=1)
    answer = asked(client, make_job(admitted=True))
    assert codes(answer) == ["starting_now"]
    assert evidence_of(answer, "starting_now")["let_in"] is True


# Rates


@pytest.mark.parametrize("kind", ["queue", "key"])
def test_its_window_is_full(
    client: testing.TestClient, make_job: JobFactory, database: Database, limit: Limit, kind: str
) -> None:
    """A sliding window is free when enough of what was spent has left it."""
    limit(**{"rate" if kind == "queue" else "key_rate": WINDOW})
    for seconds_ago in (50, 20, 70):
        start(database, make_job("completed", concurrency_key="a"), seconds_ago)
    answer = asked(client, make_job(concurrency_key="a"))
    evidence = evidence_of(answer, "rate_limited")
    assert codes(answer)[0] == "rate_limited"
    assert (evidence["limit"], evidence["name"]) == (kind, "default" if kind == "queue" else "a")
    assert (evidence["used"], evidence["number"], evidence["cost"]) == (2, 2, 1)
    assert evidence["free_in_seconds"] == pytest.approx(10, abs=3)
    assert "it is free in " in answer["summary"]


def test_a_job_of_a_high_cost_waits_for_more(
    client: testing.TestClient, make_job: JobFactory, database: Database, limit: Limit
) -> None:
    """What a start costs decides how much has to leave the window; more than the limit needs it empty."""
    limit(rate=WINDOW)
    for seconds_ago in (50, 20):
        start(database, make_job("completed"), seconds_ago)
    for cost in (2, 5):
        job = make_job(rate_cost=cost, rank=datetime(2000, 1, 1, tzinfo=UTC) + timedelta(days=-cost))
        evidence = evidence_of(asked(client, job), "rate_limited")
        assert evidence["free_in_seconds"] == pytest.approx(40, abs=3)


def test_jobs_on_their_way_hold_the_window(
    client: testing.TestClient, make_job: JobFactory, database: Database, limit: Limit
) -> None:
    """Nobody knows when a window is free that is held by jobs which have not started."""
    limit(rate=WINDOW)
    for _ in range(2):
        start(database, make_job(admitted=True), None)
    answer = asked(client, make_job())
    evidence = evidence_of(answer, "rate_limited")
    assert (evidence["let_in"], evidence["used"], evidence["free_in_seconds"]) == (2, 0, None)
    assert "after the jobs that were let in have started" in answer["summary"]


def test_its_bucket_is_empty(
    client: testing.TestClient, make_job: JobFactory, database: Database, limit: Limit
) -> None:
    """A token bucket is free when it has been refilled enough: 30 s a token, of which half is there."""
    limit(rate=BUCKET)
    with database.transaction() as connection:
        connection.exec_driver_sql(
            "INSERT INTO rate_buckets (queue, key, level, updated_at) "
            "VALUES ('default', '', 0, now() - interval '15 seconds')"
        )
    answer = asked(client, make_job())
    evidence = evidence_of(answer, "rate_limited")
    assert (evidence["algorithm"], evidence["level"]) == ("token_bucket", pytest.approx(0.5, abs=0.1))
    assert evidence["free_in_seconds"] == pytest.approx(15, abs=3)


def test_the_first_job_of_the_queue_decides_its_rate(
    client: testing.TestClient, make_job: JobFactory, database: Database, limit: Limit
) -> None:
    """A cheap job behind a dear one waits for what that one needs."""
    limit(rate=WINDOW)
    start(database, make_job("completed"), 20)
    first = make_job(rate_cost=2, rank=datetime(2000, 1, 1, tzinfo=UTC))
    answer = asked(client, make_job())
    assert codes(answer) == ["rate_limited", "jobs_ahead"]
    evidence = evidence_of(answer, "rate_limited")
    assert (evidence["next_job_id"], evidence["cost"]) == (first.id, 2)


def test_a_rate_with_room_is_no_reason(
    client: testing.TestClient, make_job: JobFactory, limit: Limit
) -> None:
    """A limit that affords the start is not told."""
    limit(rate=WINDOW, key_rate=BUCKET)
    assert codes(asked(client, make_job(concurrency_key="a"))) == ["starting_now"]


# Strict order


def test_an_older_job_of_its_key_runs(client: testing.TestClient, make_job: JobFactory, limit: Limit) -> None:
    """In strict order the older job of the key is named, and what it does."""
    limit(fifo=True)
    older = make_job("running", concurrency_key="a")
    job = make_job(concurrency_key="a")
    answer = asked(client, job)
    assert codes(answer)[:2] == ["key_blocked", "limit_reached"]
    evidence = evidence_of(answer, "key_blocked")
    assert (evidence["key"], evidence["job_id"], evidence["status"]) == ("a", older.id, "running")
    assert [reason["code"] for reason in evidence["reasons"]] == ["running"]
    assert f"the older job {older.id} has not ended: it runs since" in answer["summary"]


def test_the_older_job_of_its_key_waits_itself(
    client: testing.TestClient, make_job: JobFactory, limit: Limit
) -> None:
    """Why the older job does not move is told, one level deep."""
    limit(fifo=True)
    oldest = make_job(concurrency_key="a", available_at=FAR)
    make_job(concurrency_key="a")
    answer = asked(client, make_job(concurrency_key="a"))
    evidence = evidence_of(answer, "key_blocked")
    assert evidence["job_id"] == oldest.id
    assert [reason["code"] for reason in evidence["reasons"]] == ["waits_for_time"]
    assert answer["expected_start_at"] is None


def test_the_oldest_of_its_key_is_not_blocked(
    client: testing.TestClient, make_job: JobFactory, limit: Limit
) -> None:
    """Neither the oldest job of a key nor one without a key waits for another."""
    limit(fifo=True)
    oldest = make_job(concurrency_key="a")
    make_job("running", concurrency_key="b")
    assert "key_blocked" not in codes(asked(client, oldest))
    assert "key_blocked" not in codes(asked(client, make_job()))


# Turns


def test_the_keys_take_turns(client: testing.TestClient, make_job: JobFactory, limit: Limit) -> None:
    """In a fair queue the other keys come before, and the jobs of its own key that are older."""
    limit({"a": KeyLimits(weight=2)}, fair=True)
    before = datetime(2000, 1, 1, tzinfo=UTC)
    for key, jobs in (("a", 2), ("b", 9), ("c", 9)):
        for _ in range(jobs):
            make_job(concurrency_key=key, rank=before)
    answer = asked(client, make_job(concurrency_key="a"))
    assert codes(answer) == ["waiting_for_turn"]
    evidence = evidence_of(answer, "waiting_for_turn")
    assert (evidence["own_key"], evidence["other_keys"]) == (2, 2)
    # Two turns of its key, two other keys in each, and the two of its own.
    assert answer["ahead"] == 6
    keyless = evidence_of(asked(client, make_job()), "waiting_for_turn")
    assert (keyless["own_key"], keyless["other_keys"]) == (0, 3)


# Breakers


def test_its_breaker_is_open(client: testing.TestClient, make_job: JobFactory, database: Database) -> None:
    """An open breaker says since when and why, and when probes are let in."""
    limit_type(database, TypeLimits(breaker=Breaker(cooldown_seconds=100)))
    move_breaker(database, BreakerState.OPEN, "7 of 10 attempts failed")
    answer = asked(client, make_job())
    assert codes(answer) == ["breaker_open"]
    evidence = evidence_of(answer, "breaker_open")
    assert (evidence["type"], evidence["reason"]) == ("noop", "7 of 10 attempts failed")
    assert 90 < seconds_from(evidence["cooldown_ends_at"]) <= 100
    assert answer["expected_start_at"] == evidence["cooldown_ends_at"]
    assert "(7 of 10 attempts failed)" in answer["summary"]


def test_its_breaker_is_half_open(
    client: testing.TestClient, make_job: JobFactory, database: Database
) -> None:
    """A half-open breaker says how many of its probes were let in."""
    limit_type(database, TypeLimits(breaker=Breaker(probes=3)))
    move_breaker(database, BreakerState.HALF_OPEN, "30 s have passed: 3 probes")
    with database.transaction() as connection:
        admission_store.count_probes(connection, "noop", 2, anew=False)
    answer = asked(client, make_job())
    assert codes(answer) == ["breaker_half_open"]
    evidence = evidence_of(answer, "breaker_half_open")
    assert (evidence["probes"], evidence["probes_let_in"]) == (3, 2)


def test_a_closed_breaker_is_no_reason(
    client: testing.TestClient, make_job: JobFactory, database: Database
) -> None:
    """A breaker that lets everything in is not told."""
    limit_type(database, TypeLimits(breaker=Breaker()))
    assert codes(asked(client, make_job())) == ["starting_now"]


# Ramps


def test_its_queue_starts_little_by_little(
    client: testing.TestClient, make_job: JobFactory, database: Database, limit: Limit
) -> None:
    """After a pause the slots that the ramp gives are taken, and the reason says until when it goes on."""
    limit(ramp_seconds=1000)
    make_job("running")
    job = make_job()
    with database.transaction() as connection:
        queue_store.pause(connection, "default")
        queue_store.resume(connection, "default")
    answer = asked(client, job)
    assert codes(answer) == ["ramping"]
    evidence = evidence_of(answer, "ramping")
    assert (evidence["slots"], evidence["held"]) == (1, 1)
    assert 990 < seconds_from(evidence["until"]) <= 1000


def test_a_ramp_with_room_is_no_reason(
    client: testing.TestClient, make_job: JobFactory, database: Database, limit: Limit
) -> None:
    """A ramp that leaves a slot does not keep the job."""
    limit(ramp_seconds=1000)
    job = make_job()
    with database.transaction() as connection:
        queue_store.pause(connection, "default")
        queue_store.resume(connection, "default")
    assert codes(asked(client, job)) == ["starting_now"]


def test_several_reasons_hold_at_once(
    client: testing.TestClient, make_job: JobFactory, database: Database, limit: Limit
) -> None:
    """Whatever keeps the job is told, and first what has to end first."""
    limit(concurrency=1, rate=RateLimit(1, 60.0))
    limit_type(database, TypeLimits(concurrency=1, breaker=Breaker()))
    move_breaker(database, BreakerState.OPEN, "by hand")
    running = make_job("running")
    start(database, running, 10)
    job = make_job()
    with database.transaction() as connection:
        queue_store.pause(connection, "default", author="ada")
    assert codes(asked(client, job)) == [
        "queue_paused",
        "breaker_open",
        "limit_reached",
        "limit_reached",
        "rate_limited",
    ]
