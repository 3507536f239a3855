"""The rules of admission: turns, slots, tokens, windows."""

from __future__ import annotations

import math
from collections import Counter, deque
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goqueue.limits.rate_rules import RateBudget, TokenBucket
from goqueue.limits.rules import (
    KEYLESS,
    PROBE_AGAIN_SECONDS,
    Budget,
    Candidate,
    FairShare,
    Holder,
    TypeLimitState,
    key_slots,
    ramped_slots,
    type_slots,
)
from goqueue.limits.settings import (
    Breaker,
    BreakerState,
    KeyLimits,
    QueueLimits,
    RateAlgorithm,
    RateLimit,
    TypeLimits,
)
from goqueue.limits.window_rules import Window

RANK = datetime(2026, 1, 1, tzinfo=UTC)
SLIDING = RateLimit(3, 1.0)
BUCKET = RateLimit(4, 2.0, RateAlgorithm.TOKEN_BUCKET)


def jobs(key: str, count: int, *, first: int = 0, cost: int = 1, type_name: str = "t") -> list[Candidate]:
    """Jobs of a key."""
    return [Candidate(first + n, 0, RANK, type_name, key, cost) for n in range(count)]


def ring(share: FairShare, waiting: dict[str, list[Candidate]]) -> dict[str, list[Candidate]]:
    """The keys in the order in which the store reads them."""
    names = sorted(waiting)
    behind = [name for name in names if name > share.last] + [name for name in names if name <= share.last]
    if share.left and share.last in waiting:
        behind = [share.last, *(name for name in behind if name != share.last)]
    return {name: waiting[name] for name in behind}


def dealt_keys(share: FairShare, waiting: dict[str, list[Candidate]], count: int, **weights: int) -> str:
    """The keys of what is dealt, in its order."""
    return "".join(job.key for job in share.deal(ring(share, waiting), count, weights))


def test_keys_take_turns_by_weight_in_one_deal() -> None:
    """Each key gives as many as its weight, then the next one; what is left over goes on in rounds."""
    assert dealt_keys(FairShare(), {"a": jobs("a", 5), "b": jobs("b", 5)}, 8, b=2) == "abbabbab"


def test_a_deal_goes_on_where_the_last_one_ended() -> None:
    """A visit that the count cut off is continued by the next deal, one that was over is not."""
    share = FairShare()
    waiting = {"a": jobs("a", 9), "b": jobs("b", 9), "c": jobs("c", 9)}
    assert "".join(dealt_keys(share, waiting, 1, b=3) for _ in range(10)) == "abbbcabbbc"


def test_a_lowered_weight_ends_a_visit() -> None:
    """What was left of a visit by the old weight is not dealt any more."""
    share = FairShare("a", 500)
    assert dealt_keys(share, {"a": jobs("a", 4), "b": jobs("b", 4, first=9)}, 4) == "abab"


def test_a_key_without_jobs_loses_the_rest_of_its_visit() -> None:
    """Work-conserving: nobody waits for a key that has nothing."""
    share = FairShare()
    assert dealt_keys(share, {"a": jobs("a", 1), "b": jobs("b", 3)}, 10, a=5) == "abbb"
    assert dealt_keys(share, {"a": jobs("a", 2), "b": jobs("b", 2)}, 2) == "ab"


@given(
    st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 12), min_size=1),
    st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 4)),
    st.integers(1, 7),
)
def test_deals_lose_nothing_and_keep_the_shares(
    waiting: dict[str, int], weights: dict[str, int], count: int
) -> None:
    """Whatever the size of the deals: every job is dealt once, and no key gets ahead of its share."""
    share = FairShare()
    left = {key: deque(jobs(key, number)) for key, number in waiting.items()}
    given_out: Counter[str] = Counter()
    while any(left.values()):
        hands = {key: list(queue) for key, queue in left.items() if queue}
        for job in share.deal(ring(share, hands), count, weights):
            assert left[job.key].popleft() == job
            given_out[job.key] += 1
            waiting_keys = [key for key, queue in left.items() if queue and key != job.key]
            rounds = math.ceil(given_out[job.key] / weights.get(job.key, 1))
            for other in waiting_keys:
                assert given_out[other] >= (rounds - 2) * weights.get(other, 1)


def test_a_bucket_refills_evenly_and_not_over_its_size() -> None:
    """Four tokens in two seconds: two a second, at most four."""
    bucket = TokenBucket(BUCKET, 4.0, 100.0)
    bucket.spend(3, 101.0)
    assert bucket.at(101.0) == 1.0
    assert bucket.at(101.5) == 2.0
    assert bucket.at(200.0) == 4.0


def test_a_start_that_is_noticed_late_does_not_turn_back_the_time() -> None:
    """Starts are told in order, but a clock may step back between two of them."""
    bucket = TokenBucket(BUCKET, 4.0, 100.0)
    bucket.spend(1, 99.0)
    assert (bucket.level, bucket.updated_at) == (3.0, 100.0)


@given(st.lists(st.floats(0, 0.7), min_size=1, max_size=60), st.data())
def test_no_window_exceeds_the_rate_however_late_jobs_start(waits: list[float], data: st.DataObject) -> None:
    """Jobs are let in whenever the budget affords one, and start at any later time, in any order."""
    now, let_in = 0.0, 0
    starts: list[float] = []
    for wait in waits:
        now += wait
        used = sum(start > now - SLIDING.period_seconds for start in starts)
        if RateBudget.of_window(SLIDING, used=used, let_in=let_in).affords(1):
            let_in += 1
        started = data.draw(st.integers(0, let_in))
        starts += [now] * started
        let_in -= started
    for later, earlier in zip(starts[SLIDING.limit :], starts, strict=False):
        assert later - earlier >= SLIDING.period_seconds


@pytest.mark.parametrize(
    ("budget", "cost", "affords"),
    [
        (RateBudget(3, whole=False), 3, True),
        (RateBudget(3, whole=False), 4, False),
        (RateBudget(3, whole=True), 40, True),
        (RateBudget(-1, whole=False), 1, False),
        (RateBudget(), 10_000, True),
    ],
    ids=["enough", "not enough", "more than the limit, alone", "overspent", "no limit"],
)
def test_what_a_budget_affords(budget: RateBudget, cost: int, affords: bool) -> None:
    """A job that costs more than the limit starts when nothing else did for a whole period."""
    assert budget.affords(cost) is affords


def test_let_in_jobs_are_spent_tokens_of_a_bucket() -> None:
    """What is on its way is taken off the level, so that it finds its tokens when it starts."""
    bucket = TokenBucket(BUCKET, 4.0, 100.0)
    assert RateBudget.of_bucket(bucket, 100.0, let_in=0) == RateBudget(4.0, whole=True)
    assert RateBudget.of_bucket(bucket, 100.0, let_in=3) == RateBudget(1.0, whole=False)


def test_a_key_gets_no_more_than_its_slots_and_its_rate() -> None:
    """From the first job on: one that is not allowed stops those behind it."""
    budget = Budget(key_slots={"a": 2}, key_rates={"b": RateBudget(3, whole=False)})
    assert len(budget.within_key("a", jobs("a", 5))) == 2
    assert len(budget.within_key("b", jobs("b", 5, cost=2))) == 1
    assert len(budget.within_key("c", jobs("c", 5))) == 5
    assert len(budget.within_key(KEYLESS, jobs(KEYLESS, 5))) == 5


def test_a_job_that_the_rate_does_not_afford_stops_the_cheaper_ones_behind_it() -> None:
    """Else the expensive one would wait for ever."""
    budget = Budget(rate=RateBudget(4, whole=False))
    waiting = [*jobs("", 1), *jobs("", 1, first=1, cost=9), *jobs("", 1, first=2)]
    allowed, without_slot = budget.within_queue(waiting)
    assert [job.id for job in allowed] == [0]
    assert without_slot == []


def test_a_type_at_its_limit_does_not_stop_the_others() -> None:
    """Slots of a type are counted over all queues; jobs of other types pass by."""
    budget = Budget(slots=3, type_slots={"t": 1})
    waiting = [*jobs("", 2), *jobs("", 3, first=2, type_name="u")]
    allowed, without_slot = budget.within_queue(waiting)
    assert [job.id for job in allowed] == [0, 2, 3]
    assert [job.id for job in without_slot] == [1, 4]


def test_a_window_doubles_when_rounds_find_it_empty_and_shrinks_when_they_do_not() -> None:
    """It follows the speed of the workers between its bounds; one empty round may be a chance."""
    window = Window(floor=8, ceiling=32, size=8, was_filled=True)
    assert [window.room(0) for _ in range(5)] == [8, 8, 16, 32, 32]
    assert window.room(17) == 0
    assert window.room(14) == 30 - 14
    assert [window.room(0) for _ in range(2)] == [30, 30]


def test_a_window_of_one_grows_too() -> None:
    """One worker thread with short jobs; with a long one it stays."""
    window = Window(floor=1, ceiling=32, size=1, was_filled=True)
    assert [window.room(0) for _ in range(3)] == [1, 1, 2]
    assert Window(floor=1, ceiling=32, size=1, was_filled=True).room(1) == 0


def test_a_window_that_is_not_filled_does_not_grow() -> None:
    """A limit keeps it empty, not the workers' speed."""
    window = Window(floor=2, ceiling=32, size=2)
    assert [window.room(0) for _ in range(9)] == [2] * 9


@pytest.mark.parametrize(
    ("ramp", "slots"),
    [(None, math.inf), (0.0, 1), (0.5, 8), (0.99, 15)],
    ids=["none", "begins", "half", "ends"],
)
def test_a_ramp_grows_from_one_to_all_threads(ramp: float | None, slots: float) -> None:
    """After a pause or a slow-down."""
    assert ramped_slots(16, ramp) == slots


def test_free_slots_of_keys() -> None:
    """Only keys that hold something, or have a limit of their own, are listed."""
    limits = QueueLimits(key_concurrency=2)
    held = [Holder("q", "a", "t", 1, 1), Holder("q", KEYLESS, "t", 5, 0), Holder("q", "b", "t", 1, 0)]
    own = {"c": KeyLimits(concurrency=7), "d": KeyLimits(weight=3)}
    assert key_slots(limits, own, held) == {"a": 0, "b": 1, "c": 7}
    assert key_slots(QueueLimits(fifo=True), {}, held) == {"a": -1, "b": 0}


@pytest.mark.parametrize(
    ("limited", "held", "slots"),
    [
        (TypeLimitState(TypeLimits(5), 0, None), 2, {"t": 3}),
        (TypeLimitState(TypeLimits(None, Breaker()), 0, None), 2, {}),
        (TypeLimitState(TypeLimits(None, Breaker(), BreakerState.OPEN), 0, None), 0, {"t": 0}),
        (TypeLimitState(TypeLimits(None, Breaker(), BreakerState.HALF_OPEN), 1, 0.1), 1, {"t": 2}),
        (TypeLimitState(TypeLimits(None, Breaker(), BreakerState.HALF_OPEN), 3, 0.1), 0, {"t": 0}),
        (
            TypeLimitState(TypeLimits(None, Breaker(), BreakerState.HALF_OPEN), 3, PROBE_AGAIN_SECONDS + 1),
            0,
            {"t": 3},
        ),
    ],
    ids=["limit", "closed", "open", "probing", "probes on their way", "probes that came to nothing"],
)
def test_free_slots_of_types(limited: TypeLimitState, held: int, slots: dict[str, int]) -> None:
    """By the limit of the type and by its breaker, over all queues."""
    assert type_slots({"t": limited}, [Holder("any", "k", "t", held, 0)]) == slots
