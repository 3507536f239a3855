"""The life of a job as one list in the order of time: marks, and spans with what the time went to. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from goqueue.dashboard.charts.timeline_words import ENDED_BY, OUTCOMES, REASONS, waited
from goqueue.engine.dependency_rows import Link
from goqueue.engine.listing.listing_rows import Attempt
from goqueue.insight.job_history_rows import JobHistory
from goqueue.jobs import FINAL_STATUSES, Job, JobStatus

__all__ = ["Entry", "Timeline", "timeline"]

#: Times this close belong to the same event: two statements of one transition.
SAME = timedelta(milliseconds=1)

#: Parents that have a mark of their own.
PARENTS_SHOWN = 20

#: Of the error of an attempt.
DETAIL_MAX_CHARACTERS = 300

#: The whole grows in steps of 2 % while it goes on: bars that hardly move are the same bytes.
STEPS_PER_DOUBLING = 32


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of a timeline: a mark or a span.

    Attributes:
        key: names it among the entries of its job; the same whenever the page is made.
        tone: good, bad, info, warn, rare or quiet.
        until: its end; None of a mark, and of what goes on.
        is_now: it goes on.
        detail: more about it, as text.
        fence: of the attempt that it is.
        job_id: another job that it is about.
        worker_id: who ran it.
        offset, width: where its bar begins and how wide it is, as shares of the whole.
    """

    key: str
    title: str
    tone: str
    at: datetime
    until: datetime | None = None
    is_now: bool = False
    detail: str | None = None
    fence: int | None = None
    job_id: int | None = None
    worker_id: int | None = None
    offset: float = 0.0
    width: float = 0.0

    @property
    def seconds(self) -> float | None:
        """The length of the span; None of a mark, and of what goes on."""
        return None if self.until is None else (self.until - self.at).total_seconds()


@dataclass(frozen=True, slots=True)
class Timeline:
    """A timeline with its entries, the one that goes on last.

    Attributes:
        seconds: from the creation to the end; None while it goes on.
    """

    entries: list[Entry]
    seconds: float | None


def timeline(
    job: Job,
    history: JobHistory,
    *,
    parents: Sequence[Link] = (),
    children: Sequence[Link] = (),
    now: datetime,
) -> Timeline:
    """Put together the life of a job up to now."""
    life = _Life(job, history, parents, children, now)
    entries = [*life.marks(), *life.spans()]
    entries.sort(key=lambda entry: (entry.is_now, entry.at))
    whole = _whole(job, now)
    placed = [_placed(entry, job.created_at, whole) for entry in entries]
    ended = None if job.finished_at is None else (job.finished_at - job.created_at).total_seconds()
    return Timeline(placed, ended)


def _whole(job: Job, now: datetime) -> float:
    """The seconds that the widest bar stands for."""
    if job.finished_at is not None:
        return max((job.finished_at - job.created_at).total_seconds(), 1e-6)
    elapsed = max((now - job.created_at).total_seconds(), 0.001)
    return float(2.0 ** (math.ceil(math.log2(elapsed) * STEPS_PER_DOUBLING) / STEPS_PER_DOUBLING))


def _placed(entry: Entry, start: datetime, whole: float) -> Entry:
    offset = min(max((entry.at - start).total_seconds() / whole, 0.0), 1.0)
    # What goes on reaches to the edge, and grows with the whole.
    width = 1.0 if entry.is_now else (entry.seconds or 0.0) / whole
    return replace(entry, offset=offset, width=min(width, 1.0 - offset))


@dataclass(frozen=True, slots=True)
class _Life:
    """A job with everything that its entries are made of."""

    job: Job
    history: JobHistory
    parents: Sequence[Link]
    children: Sequence[Link]
    now: datetime

    def marks(self) -> Iterator[Entry]:
        """List what happened at one moment."""
        job = self.job
        yield Entry("created", "Created", "quiet", job.created_at)
        yield from self._ends_of_parents()
        for edit in self.history.edits:
            who = f"by {edit.author}" if edit.author else None
            title = f"Edited: version {edit.version}"
            yield Entry(f"edit-{edit.version}", title, "info", edit.at, detail=who)
        if job.cancel_requested_at is not None:
            yield Entry("cancel", "Asked to stop", "warn", job.cancel_requested_at)
        if job.cancel_acknowledged_at is not None:
            at = job.cancel_acknowledged_at
            yield Entry("acknowledged", "Its worker knows, and stops it", "warn", at)
        if job.finished_at is not None:
            yield self._end(job.finished_at)

    def spans(self) -> Iterator[Entry]:
        """List what took time: waits and attempts."""
        last: Attempt | None = None
        since = self.job.created_at
        attempts = self.history.attempts
        if self.history.has_more:
            first = attempts[0].started_at
            yield Entry("earlier", "Earlier attempts, which are not listed", "quiet", since, first)
            since = first
        for attempt in attempts:
            # The start that is kept is that of the last claim, or of the one to come.
            is_last = attempt.fence == self.job.fence and self.job.status in FINAL_STATUSES
            yield from self._waits(last, since, attempt.started_at, attempt.attempt, is_last=is_last)
            yield _attempt(attempt)
            last, since = attempt, max(attempt.finished_at, attempt.started_at)
        yield from self._present(last, since)

    def _ends_of_parents(self) -> Iterator[Entry]:
        ended = [(link.finished_at, link) for link in self.parents if link.finished_at is not None]
        for at, link in sorted(ended, key=lambda pair: pair[0])[:PARENTS_SHOWN]:
            outcome = link.outcome or link.status or JobStatus.COMPLETED
            # One that ended before is no event of this life.
            if at >= self.job.created_at - SAME and link.outcome is not None:
                title = f"Job {link.id}, which it waited for, is {outcome.value}"
                tone = "good" if outcome is JobStatus.COMPLETED else "bad"
                yield Entry(f"parent-{link.id}", title, tone, at, job_id=link.id)

    def _waits(
        self, last: Attempt | None, since: datetime, until: datetime, number: int, *, is_last: bool
    ) -> Iterator[Entry]:
        """Between two attempts, or before the first: for other jobs, for its time, and for its turn."""
        key = _wait_key(last)
        if last is None and self.parents:
            released = min(max(self._released(until), since), until)
            yield from _span(f"{key}-blocked", "Blocked: waited for other jobs", "warn", since, released)
            since = released
        why = waited(last, number)
        if not is_last or self.job.available_at > until:
            yield from _span(key, why.title, "quiet", since, until, why.detail)
            return
        due = min(max(self.job.available_at, since), until)
        yield from _span(f"{key}-time", why.title_of_time, "quiet", since, due, why.detail)
        yield from _span(f"{key}-ready", "Ready: waited for its turn", "quiet", due, until)

    def _released(self, otherwise: datetime) -> datetime:
        """When the last parent ended."""
        return max((link.finished_at for link in self.parents if link.finished_at), default=otherwise)

    def _present(self, last: Attempt | None, since: datetime) -> Iterator[Entry]:
        """What followed the last attempt that has ended, or goes on."""
        job = self.job
        if job.status in FINAL_STATUSES:
            yield from self._until_the_end(last, since)
        elif job.status is JobStatus.RUNNING:
            started = job.started_at or job.updated_at
            yield from self._waits(last, since, started, job.attempts, is_last=True)
            title = f"Attempt {job.attempts} runs" if job.worker_id else "Runs at a client of the REST API"
            if job.worker_id and job.begun_at is None:
                title = "Claimed: a worker begins it, or gives it back"
            common = {"fence": job.fence, "worker_id": job.worker_id}
            yield _now(f"attempt-{job.fence}", title, "info", started, **common)
        elif job.status is JobStatus.BLOCKED:
            yield _now("now", "Blocked: waits for other jobs", "warn", since)
        else:
            yield from self._queued(last, since)

    def _queued(self, last: Attempt | None, since: datetime) -> Iterator[Entry]:
        job = self.job
        key, why = _wait_key(last), waited(last, job.attempts + 1)
        if last is None and self.parents:
            released = min(max(self._released(since), since), self.now)
            yield from _span(f"{key}-blocked", "Blocked: waited for other jobs", "warn", since, released)
            since = released
        if job.available_at > self.now:
            yield _now("now", why.title_of_present, "quiet", since, detail=why.detail)
            return
        due = max(job.available_at, since)
        yield from _span(f"{key}-time", why.title_of_time, "quiet", since, due, why.detail)
        yield _now("now", "Ready: waits for its turn", "quiet", due)

    def _until_the_end(self, last: Attempt | None, since: datetime) -> Iterator[Entry]:
        """What lies between the last attempt and the end: a wait, or a run that no worker recorded."""
        job = self.job
        assert job.finished_at is not None
        if job.finished_at - since <= SAME:
            return
        started = job.started_at
        if started is not None and started >= since and (last is None or started > last.started_at):
            yield from self._waits(last, since, started, job.attempts, is_last=True)
            title = "Ran at a client of the REST API"
            yield Entry(f"attempt-{job.fence}", title, "info", started, job.finished_at)
            return
        title = "Blocked: waited for other jobs" if self.parents and last is None else "Waited"
        yield from _span(_wait_key(last), title, "quiet", since, job.finished_at)

    def _end(self, at: datetime) -> Entry:
        job = self.job
        title, tone = ENDED_BY[job.status]
        details = [REASONS.get(job.reason or "", job.reason or "")] if job.reason else []
        if self.children:
            count = len(self.children)
            details.append(f"told to the {count} jobs that wait for it" if count > 1 else "told to its child")
        return Entry("end", title, tone, at, detail="; ".join(details) or None)


def _wait_key(last: Attempt | None) -> str:
    return f"wait-{last.fence if last else 0}"


def _attempt(attempt: Attempt) -> Entry:
    title, tone = OUTCOMES.get(attempt.outcome, (attempt.outcome, "quiet"))
    return Entry(
        f"attempt-{attempt.fence}",
        f"Attempt {attempt.attempt} {title}",
        tone,
        attempt.started_at,
        max(attempt.finished_at, attempt.started_at),
        detail=(attempt.error or "").strip().partition("\n")[0][:DETAIL_MAX_CHARACTERS] or None,
        fence=attempt.fence,
        worker_id=attempt.worker_id,
    )


def _now(key: str, title: str, tone: str, since: datetime, **others: Any) -> Entry:
    return Entry(key, title, tone, since, is_now=True, **others)


def _span(
    key: str, title: str, tone: str, since: datetime, until: datetime, detail: str | None = None
) -> Iterator[Entry]:
    """A span, unless it is too short to be one."""
    if until - since > SAME:
        yield Entry(key, title, tone, since, until, detail=detail)
