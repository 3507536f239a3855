"""The domain: what a job is, which states it has, and what may move it from one to another. Pure Python."""

# The nouns of the domain in one place: longer than other modules, with hardly any code.
from __future__ import annotations

import enum
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

MAX_JOB_ID = 2**63 - 1
MAX_RETRIES_LIMIT = 20
PRIORITY_RANGE = (-100, 100)
MAX_TIME_LIMIT_SECONDS = 86_400
MAX_DELAY_SECONDS = 10 * 366 * 86_400
MAX_RATE_COST = 10_000
MAX_LIMIT_COST = 10_000
MAX_PARENTS = 1_000
MAX_SLOTS = 1_000
QUARANTINE_QUEUE = "quarantine"


class JobStatus(enum.StrEnum):
    """Where a job is in its life. The text in the database is the value.

    queued: it waits to be claimed. `available_at` says from when; a retry, a snooze and a run-at are queued
        jobs whose time has not come. A worker's claim moves it to running; a cancel to cancelled; the
        expiry of its time to expired. One that no reader can read is set aside: the dispatcher moves it to
        failed.
    blocked: it waits for other jobs. The transaction that records the last of them moves it to queued (or,
        by its policy, to failed or cancelled); a cancel to cancelled; the expiry of its time to expired.
    running: exactly one holder of the row's fence works on it. The recorder moves it to completed, failed,
        or back to queued (retry, snooze, interruption); the rescuer moves it to queued or failed when its
        worker is lost. A cancel only asks its worker to stop it (`cancel_requested_at`): the recorder moves
        it to cancelled when it was stopped, the rescuer when its worker does not stop it in time.
    completed: the handler returned and the result is kept. Final.
    failed: out of attempts, discarded, or killed its worker too often: the dead letter. Final, until someone
        retries it.
    cancelled: someone stopped it. Final, until someone retries it.
    expired: its time passed before it was started. Final.
    """

    QUEUED = "queued"
    BLOCKED = "blocked"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


FINAL_STATUSES = frozenset(
    {JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.EXPIRED},
)

#: What clients may ask for, by the state that a job is in. (All that ever happens to a job is in the table
#: `TRANSITIONS` of `goqueue.engine.transitions`.) A blocked job is released by what it waits for alone.
CLIENT_TRANSITIONS: dict[JobStatus, frozenset[JobStatus]] = {
    JobStatus.QUEUED: frozenset({JobStatus.RUNNING, JobStatus.CANCELLED, JobStatus.EXPIRED}),
    JobStatus.BLOCKED: frozenset({JobStatus.CANCELLED}),
    JobStatus.RUNNING: frozenset(
        {JobStatus.QUEUED, JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED},
    ),
    JobStatus.COMPLETED: frozenset(),
    JobStatus.FAILED: frozenset({JobStatus.QUEUED}),
    JobStatus.CANCELLED: frozenset({JobStatus.QUEUED}),
    JobStatus.EXPIRED: frozenset(),
}


class AttemptOutcome(enum.StrEnum):
    """How one attempt ended. `completed` and `failed` spend it; the others say whose fault it was not."""

    COMPLETED = "completed"
    FAILED = "failed"
    SNOOZED = "snoozed"
    INTERRUPTED = "interrupted"
    WORKER_DIED = "worker_died"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The rule of how often and how soon a failed job runs again.

    Attributes:
        max_retries: retries after the first run, 0 to 20: a job runs at most `1 + max_retries` times.
        min_backoff_seconds: the wait before the first retry; each further one doubles it.
        max_backoff_seconds: no wait is longer.
        jitter: spread each wait over up to twice its length, so that failures do not come back together.
    """

    max_retries: int = 3
    min_backoff_seconds: float = 1.0
    max_backoff_seconds: float = 3600.0
    jitter: bool = True

    def backoff_seconds(self, retries: int) -> float:
        """Return the wait before retry number `retries + 1`, by the rule of Dramatiq's `compute_backoff`."""
        backoff = self.min_backoff_seconds * 2.0 ** min(retries, 32)
        if not self.jitter:
            return min(backoff, self.max_backoff_seconds)
        backoff *= random.uniform(1, 2)  # noqa: S311  (spreading load, not a secret)
        if backoff > self.max_backoff_seconds:
            return self.max_backoff_seconds * random.uniform(0.5, 1)  # noqa: S311
        return backoff


class OnParentFailure(enum.StrEnum):
    """What becomes of a blocked job when a job that it waits for does not complete."""

    FAIL = "fail"
    CANCEL = "cancel"
    RUN = "run"


class UniqueMode(enum.StrEnum):
    """What a create does that meets the holder of its unique key.

    reject: nothing; the answer is the holder.
    replace_payload: the holder gets the new payload, while it is queued.
    debounce: the holder's start is pushed out to the new job's, while it is queued and up to a maximum.
    collect: the holder gets the new payload beside its own, until it begins, is full, or its time is over.
    """

    REJECT = "reject"
    REPLACE_PAYLOAD = "replace_payload"
    DEBOUNCE = "debounce"
    COLLECT = "collect"


@dataclass(frozen=True, slots=True)
class CollectRule:
    """The bounds within which a waiting job takes the payloads of further creates.

    Attributes:
        field: the member of the payload that is the list.
        seconds: it starts so long after its creation, and takes no more then.
        max_payloads: it starts as soon as it has so many.
        max_bytes: its payload has at most so many, as JSON text; a single create may have more.
    """

    field: str
    seconds: float
    max_payloads: int
    max_bytes: int


@dataclass(frozen=True, slots=True)
class UniqueRule:
    """The rule that at most one job may have a key.

    Attributes:
        key: the whole key; jobs of any queue and type that name it are alike.
        states: the key is taken while its holder is in one of these.
        window_seconds: and only for so long after the holder was created; None is for ever.
        debounce_max_seconds: a debounced start is at most so long after the holder's creation.
        collect: for the mode of that name, how much the holder takes.
    """

    key: str
    states: tuple[JobStatus, ...]
    window_seconds: float | None = None
    mode: UniqueMode = UniqueMode.REJECT
    debounce_max_seconds: float | None = None
    collect: CollectRule | None = None


@dataclass(frozen=True, slots=True)
class NewJob:
    """A validated job that is about to be inserted.

    Attributes:
        payload: the payload as JSON text, already canonical and within its size limit.
        available_at: from when it may run; None is now, or after the delay.
        delay_seconds: how long from its insertion until it may run, where `available_at` is None.
        options: per-job overrides of the retry policy and Dramatiq options, as JSON text, or None.
        concurrency_key: whose turn it is among the jobs of the queue: a tenant, an account.
        rate_cost: what one start costs the rate limits of the queue.
        expires_at: no attempt starts after it; or `ttl_seconds` after the insertion.
        deadline_at: no attempt starts or goes on after it; or `deadline_seconds` after the insertion.
        unique: at most one job may have its key.
        depends_on: ids of jobs that must have completed before.
        traceparent: the trace that it belongs to, and the span that caused it, by W3C Trace Context.
        tags: what it is called by, each once.
        requires: the labels that its worker has to have, as `name=value`, sorted.
        slots: how many threads of its worker it takes.
        limit_cost: how many slots of each concurrency limit it takes.
        encrypted: what it holds is encrypted in its rows.
    """

    queue: str
    type: str
    payload: str
    priority: int = 0
    max_retries: int = 3
    available_at: datetime | None = None
    delay_seconds: float = 0.0
    time_limit_seconds: float | None = None
    options: str | None = None
    concurrency_key: str | None = None
    rate_cost: int = 1
    expires_at: datetime | None = None
    ttl_seconds: float | None = None
    deadline_at: datetime | None = None
    deadline_seconds: float | None = None
    unique: UniqueRule | None = None
    depends_on: tuple[int, ...] = ()
    on_parent_failure: OnParentFailure = OnParentFailure.FAIL
    traceparent: str | None = None
    tags: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    slots: int = 1
    limit_cost: int = 1
    encrypted: bool = False

    @property
    def needs_fitting_worker(self) -> bool:
        """Whether not every worker that knows its type can run it: the dispatcher finds one that can."""
        return self.slots > 1 or bool(self.requires)


@dataclass(frozen=True, slots=True)
class Job:
    """One row of `jobs`, as it was at the moment it was read.

    What it holds is decrypted, and without the fields that its type redacts.

    Attributes:
        encrypted_with: the id of the key that what it holds is encrypted with in its rows; None: it is not.
        undecryptable: which of `payload`, `result` and `error` this process cannot decrypt; an empty payload,
            None, and a text that says why stand in their places.
    """

    id: int
    queue: str
    type: str
    status: JobStatus
    payload: dict[str, Any]
    priority: int
    attempts: int
    max_retries: int
    fence: int
    deaths: int
    quarantined: bool
    available_at: datetime
    time_limit_seconds: float | None
    worker_id: int | None
    result: Any
    error: str | None
    reason: str | None
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    concurrency_key: str | None = None
    rate_cost: int = 1
    admitted: bool = False
    expires_at: datetime | None = None
    deadline_at: datetime | None = None
    unique_key: str | None = None
    has_dependants: bool = False
    cancel_requested_at: datetime | None = None
    cancel_acknowledged_at: datetime | None = None
    begun_at: datetime | None = None
    fingerprint: str | None = None
    traceparent: str | None = None
    tags: tuple[str, ...] = ()
    suspicion: int = 0
    limit_cost: int = 1
    requires: tuple[str, ...] = ()
    slots: int = 1
    encrypted_with: str | None = None
    undecryptable: tuple[str, ...] = ()

    @property
    def needs_fitting_worker(self) -> bool:
        """Whether not every worker that knows its type can run it: the dispatcher finds one that can."""
        return self.slots > 1 or bool(self.requires)

    @property
    def runs_alone(self) -> bool:
        """Whether the job runs next in a process of its own: its workers died twice or more in a row."""
        return self.quarantined and self.suspicion > 1


class ShutdownReason(enum.StrEnum):
    """The reason for which a worker process ends."""

    #: A signal told it to, or the end of the program that it is a part of.
    SIGNAL = "signal"
    #: An operator told it to stop.
    REQUESTED = "requested"
    #: It had run GOQUEUE_WORKER_MAX_JOBS jobs, and was replaced.
    MAX_JOBS = "max_jobs"
    #: It had reached GOQUEUE_WORKER_MAX_MEMORY_MIB, and was replaced.
    MAX_MEMORY = "max_memory"
    #: It had lost one of its threads.
    BROKEN = "broken"


@dataclass(slots=True)
class ClaimedJob:
    """A job that this process holds: what a claim gives a worker to run one attempt.

    Its `repr` is what Dramatiq's log lines print as the message's argument, so it shows no payload.

    Attributes:
        payload: JSON text; it is parsed once, by the schema of its type.
        attempts: runs so far, this one included.
        claimed_at: when it was claimed, in seconds since 1970 by PostgreSQL's clock.
        deadline_seconds: how long the job may still run before its deadline; None: it has none.
        wait_seconds: how long before its claim it could have started.
        expires_seconds: how long it may still begin; None: it does not expire.
        unreadable_is_over: a schema could not read its payload, and the time to wait for another one has
            passed; None: none failed to.
        traceparent: the trace that it belongs to, and the span that created it, if it has any.
        slots: how many threads of its worker it takes.
        encrypted: its row holds it encrypted, and so what becomes of it.
        undecryptable: why this process cannot decrypt the payload; None: it can.
        hidden: values of the fields that its type redacts, which no text that is kept may quote.
    """

    id: int
    fence: int
    queue: str
    type: str
    payload: str
    attempts: int
    max_retries: int
    quarantined: bool
    time_limit_seconds: float | None
    options: dict[str, Any] | None
    claimed_at: float
    deadline_seconds: float | None = None
    wait_seconds: float = 0.0
    expires_seconds: float | None = None
    unreadable_is_over: bool | None = None
    slots: int = 1
    traceparent: str | None = None
    encrypted: bool = False
    undecryptable: str | None = None
    hidden: tuple[str, ...] = ()

    @property
    def attempt(self) -> int:
        """The number of this run, counted from 1."""
        return self.attempts

    @property
    def log_fields(self) -> Mapping[str, Any]:
        """The fields of every log line of its attempt."""
        return {"job_id": self.id, "type": self.type, "queue": self.queue, "attempt": self.attempts}

    @property
    def encrypted_payloads(self) -> tuple[str, ...]:
        """The payload, where it is encrypted at rest: no log line quotes it."""
        return (self.payload,) if self.encrypted else ()

    def __repr__(self) -> str:
        return f"job {self.id}.{self.fence}"


@dataclass(frozen=True, slots=True)
class FailureKind:
    """A kind of failure: all that are one problem share its fingerprint (`goqueue/engine/fingerprints.py`).

    Attributes:
        fingerprint: 16 hex digits.
        type: the type of the jobs.
        exception: the exception's class, with its module unless that is `builtins`.
        message: its message, normalised.
        frame: the module and the function that it was raised in, or None.
    """

    fingerprint: str
    type: str
    exception: str
    message: str
    frame: str | None


@dataclass(slots=True)
class Outcome:
    """The end of an attempt, as the recorder writes it.

    Attributes:
        status: what the job becomes: completed, failed, or queued again.
        refund: the attempt was not the job's fault: it is not counted.
        delay_seconds: for `queued`, how long from the recording until it may run again.
        reason: a short machine-readable word beside the error (`discarded`, `worker_died`, …), or None.
        failure_kind: which kind of failure it was, or None.
        begun: when its handler began, by PostgreSQL's clock in seconds since 1970; None: it did not.
        unreadable_by: the hash of the schema that could not read the payload, where it goes back for that: it
            waits `unreadable_wait_seconds` from the first such time for a worker with another one.
        encrypted: the job is encrypted in its rows, and so is this.
    """

    job_id: int
    fence: int
    status: JobStatus
    attempt_outcome: AttemptOutcome
    result: str | None = None
    error: str | None = None
    traceback: str | None = None
    reason: str | None = None
    delay_seconds: float = 0.0
    refund: bool = False
    run_seconds: float = 0.0
    failure_kind: FailureKind | None = None
    unreadable_by: str | None = None
    unreadable_wait_seconds: float = 0.0
    follow_ups: tuple[NewJob, ...] = ()
    begun: float | None = None
    encrypted: bool = False
