"""Reasons of a job whose time has come: the limits that keep it out, and its place in the order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from goqueue.insight.explain.facts import Facts, LimitFacts, RateFacts
from goqueue.insight.explain.reasons import Reason, ReasonCode
from goqueue.insight.explain.text import count, moment, span
from goqueue.limits.rules import ramped_slots
from goqueue.limits.settings import RateAlgorithm

__all__ = ["DISPATCHED_WITHIN_SECONDS", "KEYS_COUNTED_UP_TO", "expiring", "limits", "order"]

#: A job that may start is on its way for so long; later, something is wrong with the dispatcher or Redis.
DISPATCHED_WITHIN_SECONDS = 5.0

#: Keys that take turns are counted up to here.
KEYS_COUNTED_UP_TO = 1_000

#: Ids of holders that a sentence names.
HOLDERS_SHOWN = 5


def limits(facts: Facts) -> Iterator[Reason]:
    """Yield the limits that keep out a job which is due and was not let in."""
    if facts.blocker is not None:
        yield _key_blocked(facts)
    for limit in facts.limits:
        yield _limit_reached(limit)
    for rate in facts.rates:
        yield _rate_limited(facts, rate)
    queue = facts.queue
    slots = ramped_slots(facts.eligible.queue_slots, queue.ramp)
    if queue.ramp is not None and facts.held >= slots:
        yield Reason(
            ReasonCode.RAMPING,
            f"the queue {facts.job.queue!r} starts again little by little after a pause or a slow-down: "
            f"{count(int(slots), 'job')} at once now, {facts.held} hold a slot, and it has all its slots "
            "again " + ("soon" if queue.ramping_until is None else f"at {moment(queue.ramping_until)}"),
            {
                "since": queue.ramping_since,
                "until": queue.ramping_until,
                "slots": int(slots),
                "held": facts.held,
            },
        )


def _key_blocked(facts: Facts) -> Reason:
    blocker = facts.blocker
    assert blocker is not None
    why = blocker.explanation
    return Reason(
        ReasonCode.KEY_BLOCKED,
        f"the jobs of the key {facts.job.concurrency_key!r} run strictly one after the other, and the older "
        f"job {blocker.id} has not ended: {why.reasons[0].message}",
        {
            "key": facts.job.concurrency_key,
            "job_id": blocker.id,
            "status": why.status.value,
            "reasons": [reason.as_document() for reason in why.reasons],
        },
        waits=True,
    )


def _limit_reached(limit: LimitFacts) -> Reason:
    shown = ", ".join(f"{holder.id} ({holder.status})" for holder in limit.holders[:HOLDERS_SHOWN])
    more = ", …" if limit.held > HOLDERS_SHOWN else ""
    takes = "" if limit.cost == 1 else f"it takes {limit.cost} slots, "
    return Reason(
        ReasonCode.LIMIT_REACHED,
        f"{takes}the {limit.kind} {limit.name!r} runs at most {count(limit.number, 'job')} at once, and its "
        f"slots are held by {shown or 'jobs that end just now'}{more}",
        {
            "limit": limit.kind,
            "name": limit.name,
            "number": limit.number,
            "held": limit.held,
            "cost": limit.cost,
            "held_by": [
                {"id": holder.id, "status": holder.status, "since": holder.since} for holder in limit.holders
            ],
        },
    )


def _rate_limited(facts: Facts, rate: RateFacts) -> Reason:
    limit = rate.limit
    evidence: dict[str, Any] = {
        "limit": rate.kind,
        "name": rate.name,
        "number": limit.limit,
        "period_seconds": limit.period_seconds,
        "algorithm": limit.algorithm.value,
        "cost": rate.cost,
        "next_job_id": rate.next_id,
        "let_in": rate.let_in,
        "free_in_seconds": rate.free_in_seconds,
    }
    if limit.algorithm is RateAlgorithm.TOKEN_BUCKET:
        evidence["level"] = rate.level
        spent = f"{max(0.0, rate.level or 0.0):.3g} tokens are left"
    else:
        evidence["used"] = rate.used
        spent = f"{rate.used} are spent"
    free = f"it is free in {span(rate.free_in_seconds or 0)}"
    if rate.free_in_seconds is None:
        free = "it is free some time after the jobs that were let in have started"
    whose = "" if rate.next_id == facts.job.id else f", and job {rate.next_id} comes first"
    return Reason(
        ReasonCode.RATE_LIMITED,
        f"the {rate.kind} {rate.name!r} starts at most {limit.limit:,} in {span(limit.period_seconds)}, "
        f"{spent}, {count(rate.let_in, 'job')} on the way: {free}{whose}",
        evidence,
    )


def order(facts: Facts) -> Iterator[Reason]:
    """Yield why a job that may start has not: its place in the order, or that it is on its way."""
    seconds = _ready_seconds(facts)
    eligible, ahead = facts.eligible, facts.position is not None and facts.position.ahead > 0
    if _is_overlooked(facts, seconds, ahead=ahead):
        yield _not_dispatched(facts, seconds)
    if ahead:
        yield _ahead(facts)
    elif eligible.free <= 0 and eligible.workers:
        yield _workers_busy(facts)
    elif seconds <= DISPATCHED_WITHIN_SECONDS:
        yield _starting(facts, seconds)


def _is_overlooked(facts: Facts, seconds: float, *, ahead: bool) -> bool:
    """Whether it could have started long ago. Where jobs start all the time, those ahead are the reason."""
    if seconds <= DISPATCHED_WITHIN_SECONDS or not facts.eligible.workers:
        return False
    stands = not facts.starts_per_second
    if ahead and not stands:
        return False
    return facts.eligible.free > 0 or (facts.led is False and stands)


def _ready_seconds(facts: Facts) -> float:
    """Since when it could start by its own row, at most."""
    return (facts.now - max(facts.job.available_at, facts.job.updated_at)).total_seconds()


def _not_dispatched(facts: Facts, seconds: float) -> Reason:
    free = max(0, facts.eligible.free)
    why = (
        f"{count(free, 'worker ' + facts.eligible.slot_name)} could run it, and a scheduler leads: its "
        "dispatcher is behind, or Redis does not bring the job to a worker"
    )
    if facts.led is False:
        why = "no scheduler leads: does `goqueue scheduler` run?"
    return Reason(
        ReasonCode.NOT_DISPATCHED,
        f"it is ready for {span(seconds)} and was not dispatched; {why}",
        {
            "ready_seconds": seconds,
            f"free_{facts.eligible.slots_key}": free,
            "leader": facts.led,
            "in_order": facts.job.in_order,
            "let_in": facts.job.admitted,
        },
        waits=True,
    )


def _ahead(facts: Facts) -> Reason:
    position = facts.position
    assert position is not None
    evidence: dict[str, Any] = {
        "ahead": position.ahead,
        "counted_up_to": position.counted_up_to,
        facts.eligible.slots_key: facts.eligible.slots,
        "busy": facts.eligible.busy,
        "rate_per_second": facts.starts_per_second,
    }
    rate = f"the queue starts {facts.starts_per_second or 0:.3g} a second"
    if position.own is None:
        jobs = count(position.ahead, "job", bound=position.counted_up_to)
        verb = "stands" if position.ahead == 1 else "stand"
        return Reason(ReasonCode.JOBS_AHEAD, f"{jobs} {verb} before it by rank; {rate}", evidence)
    own = count(position.own, "job", bound=position.counted_up_to)
    keys = count(position.other_keys, "other key", bound=KEYS_COUNTED_UP_TO)
    return Reason(
        ReasonCode.WAITING_FOR_TURN,
        f"the keys take turns: {own} of its own key and {keys} come before it, at most "
        f"{position.ahead:,} in all; {rate}",
        evidence | {"own_key": position.own, "other_keys": position.other_keys},
    )


def _workers_busy(facts: Facts) -> Reason:
    eligible = facts.eligible
    return Reason(
        ReasonCode.WORKERS_BUSY,
        f"it is next, and waits for a free {eligible.slot_name}: {eligible.busy} of the {eligible.slots} "
        f"{eligible.slot_name}s of {count(eligible.workers, 'live worker')} are taken",
        {"workers": eligible.workers, eligible.slots_key: eligible.slots, "busy": eligible.busy},
    )


def _starting(facts: Facts, seconds: float) -> Reason:
    return Reason(
        ReasonCode.STARTING_NOW,
        f"nothing keeps it from starting: it is on its way to a worker since {span(seconds)}",
        {"ready_seconds": seconds, "let_in": facts.job.admitted, "in_order": facts.job.in_order},
        ends_at=facts.now,
    )


def expiring(facts: Facts) -> Iterator[Reason]:
    """Yield a note of the time until which the job has to start, if there is one."""
    job, ends = facts.job, facts.job.ends_at
    if ends is not None and ends > facts.now:
        seconds = (ends - facts.now).total_seconds()
        which = "deadline" if ends == job.deadline_at else "expiry"
        yield Reason(
            ReasonCode.EXPIRING,
            f"note: its {which} is at {moment(ends)}, {span(seconds)} from now; it does not start after that",
            {"expires_at": job.expires_at, "deadline_at": job.deadline_at, "seconds": seconds},
        )
