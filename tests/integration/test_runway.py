"""The runway on a real Valkey: push.lua, fetch, put back, acknowledge."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from goqueue.config.settings import Settings
from goqueue.dev.embedded import EmbeddedValkey
from goqueue.engine.runway.runway import Message, Pushed, Runway, parse
from goqueue.errors import RedisUnavailableError
from tests.support.servers.bare_runway import BareRunway
from tests.support.waiting import wait_until

QUEUE = "q"


@pytest.fixture
def settings(valkey: EmbeddedValkey, request: pytest.FixtureRequest) -> Settings:
    """Settings of an unused namespace; no database."""
    name = "".join(c if c.isalnum() else "_" for c in request.node.name)
    return Settings(redis_url=valkey.url, namespace=f"runway_{name}", lost_push_seconds=0.05, runway_min=4)


@pytest.fixture
def runway(settings: Settings) -> Iterator[Runway]:
    """The runways of that namespace."""
    runway = Runway(settings)
    yield runway
    runway.close()


def messages(*ids: int) -> list[Message]:
    """First messages of these jobs."""
    return [Message(job_id, 0) for job_id in ids]


def keys(*ids: int) -> list[bytes]:
    """Their texts in Redis."""
    return [f"{job_id}.0".encode() for job_id in ids]


def fetch(runway: Runway, count: int = 100) -> list[bytes]:
    """Take what is there."""
    return runway.fetch(QUEUE, count, block_seconds=0.01)


def dispatch(runway: Runway, *ids: int, limit: int = 100, closed: bool = False) -> Pushed:
    """Push as the dispatcher does."""
    return runway.dispatch(QUEUE, messages(*ids), limit=limit, closed=closed)


def age(bare: BareRunway, *ids: int, milliseconds: int = 60_000) -> None:
    """Make messages look as if they had been pushed so long ago."""
    name = bare.key("messages", QUEUE)
    for key in keys(*ids):
        pushed = int(bare.redis.hget(name, key.decode()) or 0)
        bare.redis.hset(name, key.decode(), str(pushed - milliseconds))


@pytest.mark.parametrize("mode", ["submit", "dispatch"])
def test_a_push_is_idempotent(runway: Runway, mode: str) -> None:
    """Pushing again adds nothing, in the same call or a later one, listed or already fetched."""
    push = dispatch if mode == "dispatch" else lambda r, *ids: r.submit(QUEUE, messages(*ids))
    assert push(runway, 1, 2, 1).added == 2
    assert push(runway, 2, 1).added == 0
    assert fetch(runway) == keys(1, 2)
    assert push(runway, 1, 2).added == 0
    assert fetch(runway) == []


def test_another_fence_is_another_message(runway: Runway) -> None:
    """A job that comes back under a higher fence has a message of its own."""
    runway.submit(QUEUE, [Message(1, 0)])
    assert runway.submit(QUEUE, [Message(1, 1)]).added == 1
    assert fetch(runway) == [b"1.0", b"1.1"]


def test_order_is_kept_through_push_and_fetch(runway: Runway) -> None:
    """Messages leave in the order in which they came, in portions as in one."""
    dispatch(runway, 5, 3, 9)
    dispatch(runway, 1)
    assert [fetch(runway, 2), fetch(runway, 2)] == [keys(5, 3), keys(9, 1)]


def test_put_back_returns_messages_to_their_place(runway: Runway) -> None:
    """What is put back is fetched next, in its order, before the rest."""
    dispatch(runway, 1, 2, 3, 4)
    taken = parse(fetch(runway, 3)).messages
    runway.put_back(QUEUE, taken)
    runway.put_back(QUEUE, [])
    assert fetch(runway) == keys(1, 2, 3, 4)


def test_an_acknowledged_message_may_come_again(runway: Runway) -> None:
    """After the acknowledgement the same message is new; acknowledging twice or nothing is fine."""
    dispatch(runway, 1)
    fetch(runway)
    for _ in range(2):
        runway.acknowledge(QUEUE, ["1.0"])
    runway.acknowledge(QUEUE, [])
    assert dispatch(runway, 1).added == 1


def test_the_limit_cuts_a_dispatch(runway: Runway) -> None:
    """The dispatcher's push stops at the limit; what was cut can be pushed when there is room."""
    assert dispatch(runway, 1, 2, 3, limit=2).added == 2
    assert dispatch(runway, 3, limit=2).added == 0
    assert fetch(runway) == keys(1, 2)
    assert dispatch(runway, 3, limit=2).added == 1


def test_a_full_runway_closes_the_gate_for_submits(runway: Runway) -> None:
    """A submit fills the runway up to the limit and closes the gate, so that nobody overtakes the rest."""
    assert runway.submit(QUEUE, messages(1, 2, 3, 4, 5, 6)).added == 4
    assert fetch(runway) == keys(1, 2, 3, 4)
    assert runway.submit(QUEUE, messages(7)).added == 0
    assert dispatch(runway, 5, 6).added == 2
    assert runway.submit(QUEUE, messages(7)).added == 1


def test_the_dispatcher_sets_gate_and_limit(runway: Runway) -> None:
    """A closed gate refuses submits and not dispatches; an open one takes the dispatcher's limit."""
    assert dispatch(runway, 1, closed=True).added == 1
    assert runway.submit(QUEUE, messages(2)).added == 0
    assert dispatch(runway, 2, closed=True).added == 1
    assert dispatch(runway, limit=7).added == 0
    assert runway.submit(QUEUE, messages(*range(3, 20))).added == 5


def test_a_paused_queue_has_no_runway(runway: Runway) -> None:
    """Closing the gate empties the runway; what was there can be pushed again later."""
    dispatch(runway, 1, 2)
    runway.close_gate(QUEUE)
    assert runway.submit(QUEUE, messages(3)).added == 0
    assert fetch(runway) == []
    assert dispatch(runway, 1, 2, 3).added == 3


def test_a_lost_message_is_added_again(runway: Runway, bare_runway: BareRunway) -> None:
    """A message in the hash, not in the list, and old was lost on its way: it is added again, and counted."""
    dispatch(runway, 1, 2)
    fetch(runway)
    age(bare_runway, 1)
    assert dispatch(runway, 1, 2)[:2] == (1, 1)
    assert dispatch(runway, 1, 2)[:2] == (0, 0)
    assert fetch(runway) == keys(1)


def test_an_old_message_that_is_listed_is_left_alone(runway: Runway, bare_runway: BareRunway) -> None:
    """A message that waits for long in the list is not lost."""
    dispatch(runway, 1, 2)
    age(bare_runway, 1, 2)
    assert dispatch(runway, 1, 2)[:2] == (0, 0)
    assert fetch(runway) == keys(1, 2)


def test_a_submit_never_doubts(runway: Runway, bare_runway: BareRunway) -> None:
    """Only the dispatcher, which read the row, may decide that a message was lost."""
    runway.submit(QUEUE, messages(1))
    fetch(runway)
    age(bare_runway, 1)
    assert runway.submit(QUEUE, messages(1)).added == 0


def test_a_wiped_redis_starts_anew(runway: Runway, bare_runway: BareRunway) -> None:
    """After the keys are gone a dispatch fills the runway as if nothing had been."""
    dispatch(runway, 1, 2, closed=True)
    bare_runway.wipe()
    assert dispatch(runway, 1, 2).added == 2
    assert fetch(runway) == keys(1, 2)


def test_old_entries_are_forgotten(runway: Runway, bare_runway: BareRunway) -> None:
    """Hash entries that nobody acknowledged go after their time, and unreadable ones; younger ones stay."""
    dispatch(runway, 1, 2, 3)
    age(bare_runway, 1, milliseconds=700_000)
    bare_runway.redis.hset(bare_runway.key("messages", QUEUE), "2.0", "no number")
    assert runway.forget_older_than(QUEUE, 600) == 2
    assert bare_runway.redis.hkeys(bare_runway.key("messages", QUEUE)) == [b"3.0"]


def test_lengths_count_lists_and_hashes(runway: Runway) -> None:
    """Each queue's runway and unacknowledged messages are counted; unknown queues are empty."""
    dispatch(runway, 1, 2, 3)
    fetch(runway, 1)
    assert runway.lengths([QUEUE, "other"]) == [(2, 3), (0, 0)]
    assert runway.lengths([]) == []


def test_waking_is_remembered_once(runway: Runway) -> None:
    """Any number of wakes before the dispatcher listens are one."""
    for _ in range(3):
        runway.wake_dispatcher()
    assert runway.wait_for_wake(0.01)
    assert not runway.wait_for_wake(0.01)


def test_a_long_wait_for_a_wake_is_no_outage(settings: Settings) -> None:
    """The client's time-out is longer than any wait that the settings allow."""
    waits = {"redis_timeout_seconds": 0.3, "fetch_block_seconds": 0.05, "dispatch_idle_seconds": 0.6}
    runway = Runway(settings.model_copy(update=waits))
    try:
        assert not runway.wait_for_wake(0.6)
    finally:
        runway.close()


def test_queues_do_not_mix(runway: Runway) -> None:
    """A message belongs to the runway that it was pushed to."""
    runway.submit("a", messages(1))
    runway.submit("b", messages(1))
    assert runway.fetch("a", 9, block_seconds=0.01) == keys(1)
    assert runway.fetch("b", 9, block_seconds=0.01) == keys(1)


def test_an_unreachable_redis_is_one_error(settings: Settings) -> None:
    """Every operation says RedisUnavailableError where nobody answers."""
    runway = Runway(
        settings.model_copy(update={"redis_url": settings.redis_url.__class__("redis://127.0.0.1:1/0")})
    )
    try:
        for operation in (
            lambda: runway.submit(QUEUE, messages(1)),
            lambda: dispatch(runway, 1),
            lambda: fetch(runway),
            lambda: runway.put_back(QUEUE, messages(1)),
            lambda: runway.acknowledge(QUEUE, ["1.0"]),
            lambda: runway.lengths([QUEUE]),
            lambda: runway.close_gate(QUEUE),
            lambda: runway.forget_older_than(QUEUE, 1),
            runway.wake_dispatcher,
            lambda: runway.wait_for_wake(0.01),
            runway.ping,
            runway.eviction_policy,
        ):
            with pytest.raises(RedisUnavailableError):
                operation()
    finally:
        runway.close()


def test_scripts_survive_a_script_flush(runway: Runway, bare_runway: BareRunway) -> None:
    """A Redis that forgot the script (a restart) is given it again."""
    dispatch(runway, 1)
    bare_runway.redis.script_flush()
    assert dispatch(runway, 2).added == 1


def test_what_was_given_back_is_next_again(runway: Runway) -> None:
    """Returned messages stand at the head in their order, also while only the dispatcher may push."""
    dispatch(runway, 1, 2, closed=True)
    pushed = runway.push_returned(QUEUE, messages(7, 8, 9), wanted=True)
    assert (pushed.added, pushed.closed) == (3, 0)
    assert fetch(runway) == keys(7, 8, 9, 1, 2)
    # What Redis knows already is not pushed again.
    assert runway.push_returned(QUEUE, messages(7), wanted=True).added == 0


def test_a_full_runway_leaves_what_was_given_back_to_the_dispatcher(runway: Runway) -> None:
    """Where nobody waits for them, no more go back than the runway holds, and the gate closes behind them."""
    pushed = runway.push_returned(QUEUE, messages(*range(1, 7)), wanted=False)
    assert (pushed.added, pushed.closed, pushed.known) == (4, 1, 4)
    assert fetch(runway) == keys(1, 2, 3, 4)
    assert runway.submit(QUEUE, messages(8)).added == 0


def test_a_worker_that_waits_is_seen_by_others(runway: Runway) -> None:
    """Whoever blocks in a fetch is waited for by others, until it says otherwise or the time is over."""
    assert not runway.is_waited_for(QUEUE, except_worker=1)
    assert runway.take(QUEUE, 1, block_seconds=0.01, waits_as=2).entries == []
    assert runway.is_waited_for(QUEUE, except_worker=1)
    assert not runway.is_waited_for(QUEUE, except_worker=2)
    runway.wait_no_more(QUEUE, 2)
    assert not runway.is_waited_for(QUEUE, except_worker=1)
    runway.take(QUEUE, 1, block_seconds=0.01, waits_as=3)
    wait_until(lambda: not runway.is_waited_for(QUEUE, except_worker=1), what="its time")
