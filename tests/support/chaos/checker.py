"""Judges a run in Jepsen's words: attempted, acknowledged, ok, lost, unexpected, duplicated, recovered.

Pure: it gets a `History` and knows no server. A run is valid when nothing was lost and nothing unexpected
happened; duplicates and recovery times are reported in any case.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

FINAL = frozenset({"completed", "failed", "cancelled", "expired"})

#: Attempts after which a job runs again because its policy or its handler says so.
RETRIED = frozenset({"failed", "snoozed"})


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job as the record has it; `token` is what the client called it."""

    id: int
    token: str
    status: str
    fence: int
    updated_at: float
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """An attempt that ended, as the record has it."""

    job_id: int
    fence: int
    outcome: str
    worker_id: int | None
    started_at: float
    finished_at: float


@dataclass(frozen=True, slots=True)
class Effect:
    """A line of the side-effect log: `what` is start or end."""

    job_id: int
    fence: int
    attempt: int
    pid: int
    what: str
    time: float


@dataclass(frozen=True, slots=True)
class Fault:
    """A harm that the test did to the stack, and which jobs were running then."""

    kind: str
    time: float
    running: frozenset[int] = frozenset()


@dataclass(slots=True)
class History:
    """All facts that are known of a run.

    Attributes:
        attempted: the tokens of all jobs that the clients tried to create.
        acknowledged: those that got an answer, with their ids.
        finals: jobs as they were first seen in a final state, by id.
        changed: what the sampler saw change after a final state.
        harmed_workers: the workers that the test killed, stopped or told to drain; None is not known.
        drained: some worker was told to stop: its jobs may have been interrupted.
        shared: the tokens that any number of jobs may have: of a schedule, of a unique key.
    """

    attempted: set[str] = field(default_factory=set)
    acknowledged: dict[str, int] = field(default_factory=dict)
    jobs: list[JobRow] = field(default_factory=list)
    attempts: list[AttemptRow] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    finals: dict[int, JobRow] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    harmed_workers: set[int] | None = None
    drained: bool = False
    shared: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Report:
    """The verdict of the checker on a run.

    Attributes:
        duplicated: how many side-effect starts were repeats that no retry explains, by why.
        recovered: how many jobs lost a worker and completed later.
        recovery_seconds: how long it took each time until they ran again.
    """

    attempts: int
    acknowledged: int
    ok: int
    failed: int
    lost: list[str]
    unexpected: list[str]
    duplicated: dict[str, int]
    recovered: int
    recovery_seconds: list[float]

    @property
    def valid(self) -> bool:
        """Whether nothing was lost and nothing unexpected happened."""
        return not self.lost and not self.unexpected

    def __str__(self) -> str:
        """The report, as it is printed."""
        times = sorted(self.recovery_seconds)
        slowest = f"{times[-1]:.2f} s at most, {times[len(times) // 2]:.2f} s median" if times else "none"
        counts = {
            "attempts": self.attempts,
            "acknowledged": self.acknowledged,
            "ok": self.ok,
            "failed": self.failed,
            "lost": len(self.lost),
            "unexpected": len(self.unexpected),
            "duplicated": f"{sum(self.duplicated.values())} {self.duplicated or ''}".strip(),
            "recovered": self.recovered,
        }
        verdict = "valid" if self.valid else "INVALID"
        told = ", ".join(f"{name} {count}" for name, count in counts.items())
        lines = [f"{verdict}: {told}; running again after: {slowest}"]
        lines += [f"  lost: {text}" for text in self.lost[:10]]
        lines += [f"  unexpected: {text}" for text in self.unexpected[:10]]
        return "\n".join(lines)


def check(history: History) -> Report:
    """Judge a run that is over: every job that can end has ended."""
    recoveries = list(_recoveries(history))
    return Report(
        attempts=len(history.attempted),
        acknowledged=len(history.acknowledged),
        ok=sum(job.status == "completed" for job in history.jobs),
        failed=sum(job.status == "failed" for job in history.jobs),
        lost=list(_lost(history)),
        unexpected=[
            *_unexpected_rows(history),
            *_changed_after_final(history),
            *_impossible_attempts(history),
            *_effects_without_attempts(history),
            *_attempts_without_effects(history),
            *_unexplained_repeats(history),
        ],
        duplicated=dict(Counter(repeat.outcome for repeat in _repeats(history))),
        recovered=len({job_id for job_id, _ in recoveries}),
        recovery_seconds=[seconds for _, seconds in recoveries],
    )


def _lost(history: History) -> Iterator[str]:
    """What was acknowledged and has no row, and what exists, acknowledged or not, and has no end."""
    by_id = {job.id: job for job in history.jobs}
    for token, job_id in history.acknowledged.items():
        if job_id not in by_id:
            yield f"job {job_id} ({token}) has no row"
    for job in history.jobs:
        if job.status not in FINAL:
            yield f"job {job.id} is {job.status} (fence {job.fence})"


def _unexpected_rows(history: History) -> Iterator[str]:
    for token, count in Counter(job.token for job in history.jobs).items():
        if token not in history.attempted:
            yield f"nobody submitted the job of {token}"
        elif count > 1 and token not in history.shared:
            yield f"{count} jobs were made of the one submit {token}"
    by_id = {job.id: job.token for job in history.jobs}
    for token, job_id in history.acknowledged.items():
        if by_id.get(job_id, token) != token:
            yield f"{token} was acknowledged as job {job_id}, which is {by_id[job_id]}"


def _changed_after_final(history: History) -> Iterator[str]:
    yield from history.changed
    by_id = {job.id: job for job in history.jobs}
    for job_id, final in history.finals.items():
        now = by_id.get(job_id)
        if now is None:
            yield f"job {job_id} was {final.status} and vanished"
        elif now != final:
            yield f"job {job_id} changed after its end: {final} became {now}"


def _impossible_attempts(history: History) -> Iterator[str]:
    completions = Counter(row.job_id for row in history.attempts if row.outcome == "completed")
    last = {row.job_id: row for row in sorted(history.attempts, key=lambda row: row.fence)}
    for job_id, count in completions.items():
        if count > 1:
            yield f"job {job_id} has {count} completed attempts"
    for job in history.jobs:
        row = last.get(job.id)
        if job.status == "completed" and (
            row is None or row.outcome != "completed" or row.fence != job.fence
        ):
            yield f"job {job.id} is completed at fence {job.fence}, its last attempt is {row}"
        elif job.status != "completed" and completions.get(job.id):
            yield f"job {job.id} has a completed attempt and is {job.status}"
        if row is not None and row.fence > job.fence:
            yield f"job {job.id} has fence {job.fence} and an attempt of a later one: {row}"
    known = {job.id for job in history.jobs}
    for job_id in {row.job_id for row in history.attempts} - known:
        yield f"attempts of job {job_id}, which does not exist"


def _effects_without_attempts(history: History) -> Iterator[str]:
    recorded = {(row.job_id, row.fence) for row in history.attempts}
    held = {(job.id, job.fence) for job in history.jobs if job.status in {"running", "cancelled"}}
    known = {job.id for job in history.jobs}
    starts = Counter((line.job_id, line.fence) for line in history.effects if line.what == "start")
    for (job_id, fence), count in starts.items():
        if count > 1:
            yield f"job {job_id} started {count} times under the one fence {fence}"
        if job_id not in known:
            yield f"side effects of job {job_id}, which does not exist"
        elif (job_id, fence) not in recorded | held:
            yield f"job {job_id} started under fence {fence}, and no attempt says so"


def _attempts_without_effects(history: History) -> Iterator[str]:
    lines = {(line.job_id, line.fence, line.what) for line in history.effects}
    for row in history.attempts:
        if row.outcome in {"completed", "failed"} and (row.job_id, row.fence, "start") not in lines:
            yield f"an attempt that never started: {row}"
        if row.outcome == "completed" and (row.job_id, row.fence, "end") not in lines:
            yield f"a completed attempt that never ended: {row}"


def _repeats(history: History) -> Iterator[AttemptRow]:
    """The attempts whose side effects were begun and are begun again later, though no retry asked for it."""
    fences = defaultdict(list)
    for line in history.effects:
        if line.what == "start":
            fences[line.job_id].append(line.fence)
    for row in history.attempts:
        started = fences.get(row.job_id, [])
        if row.outcome not in RETRIED and row.fence in started and max(started) > row.fence:
            yield row


def _unexplained_repeats(history: History) -> Iterator[str]:
    """Only jobs that ran when a worker died, was silent past its lease, or drained, may run twice."""
    allowed = {"worker_died", "interrupted"} if history.drained else {"worker_died"}
    harmed = history.harmed_workers
    for row in _repeats(history):
        if row.outcome not in allowed:
            yield f"ran again without a reason: {row}"
        elif harmed is not None and row.worker_id not in harmed:
            yield f"ran again although its worker was well: {row}"


def _recoveries(history: History) -> Iterator[tuple[int, float]]:
    """For each attempt that a worker took with it, of a job that completed: how long until the job ran again.

    It counts from the fault; where none was noted (the job itself was the fault) from the lost start.
    """
    completed = {job.id for job in history.jobs if job.status == "completed"}
    rows = defaultdict(list)
    for row in sorted(history.attempts, key=lambda row: row.fence):
        rows[row.job_id].append(row)
    for job_id in completed:
        for lost, again in pairwise(rows[job_id]):
            if lost.outcome == "worker_died":
                yield job_id, again.started_at - _lost_at(history, lost)


def _lost_at(history: History, lost: AttemptRow) -> float:
    times = (
        fault.time
        for fault in history.faults
        if lost.job_id in fault.running and lost.started_at <= fault.time <= lost.finished_at
    )
    return min(times, default=lost.started_at)
