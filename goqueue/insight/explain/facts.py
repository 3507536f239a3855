"""The facts about a job that tell why it does not run: one snapshot of the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from goqueue.insight.explain.reasons import Explanation
from goqueue.jobs import AttemptOutcome, JobStatus
from goqueue.limits.rules import TypeLimitState
from goqueue.limits.settings import QueueLimits, RateLimit

#: The most parents of a blocked job that are told.
PARENTS_MAX = 20


class JobFacts(NamedTuple):
    """The job's row, as it was at the moment of the question.

    Attributes:
        in_order: it has its place in the order of its queue (`rank`): the dispatcher saw that it is due.
        begun_at: when the handler of a running job began; None: as far as is known it has not.
        unreadable_by: the schemas of its type that could not read its payload.
        unreadable_until: so long it waits for a worker with another one; None: it does not.
        requires: the labels that its worker has to have; None: it runs anywhere, and takes one slot.
        slots: how many threads of its worker it takes, or of async slots.
        limit_cost: how many slots of each concurrency limit it takes.
    """

    id: int
    queue: str
    type: str
    status: JobStatus
    attempts: int
    max_retries: int
    fence: int
    deaths: int
    quarantined: bool
    admitted: bool
    in_order: bool
    rank: datetime | None
    available_at: datetime
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    worker_id: int | None
    error: str | None
    reason: str | None
    concurrency_key: str | None
    rate_cost: int
    expires_at: datetime | None
    deadline_at: datetime | None
    cancel_requested_at: datetime | None
    cancel_acknowledged_at: datetime | None
    begun_at: datetime | None = None
    suspicion: int = 0
    unreadable_by: Sequence[str] = ()
    unreadable_until: datetime | None = None
    requires: Sequence[str] | None = None
    slots: int = 1
    limit_cost: int = 1

    @property
    def runs_alone(self) -> bool:
        """Whether the job runs next in a process of its own: its workers died twice or more in a row."""
        return self.quarantined and self.suspicion > 1

    @property
    def ends_at(self) -> datetime | None:
        """The time after which no attempt starts; None where it may always start."""
        return min((time for time in (self.expires_at, self.deadline_at) if time is not None), default=None)


class AttemptFacts(NamedTuple):
    """The last attempt that has ended.

    Attributes:
        deaths: of all attempts, how many ended with the death of the worker.
    """

    attempt: int
    fence: int
    outcome: AttemptOutcome
    error: str | None
    finished_at: datetime
    deaths: int


@dataclass(frozen=True, slots=True)
class QueueFacts:
    """The row of the job's queue, by PostgreSQL's clock.

    Attributes:
        ramp: how far it has come after a pause or a slow-down, 0 to 1; None: it does not ramp up.
        namespace, namespace_max_running: whose quota of jobs that run it is under; None: there is none.
    """

    limits: QueueLimits = field(default_factory=QueueLimits)
    limited: bool = False
    paused_at: datetime | None = None
    paused_until: datetime | None = None
    paused_by: str | None = None
    pause_reason: str | None = None
    throttled_until: datetime | None = None
    ramp: float | None = None
    ramping_since: datetime | None = None
    ramping_until: datetime | None = None
    namespace: str | None = None
    namespace_max_running: int | None = None


class TypeFacts(NamedTuple):
    """The row of the job's type, which is limited."""

    limit_state: TypeLimitState
    changed_at: datetime | None = None
    reason: str | None = None
    cooldown_ends_at: datetime | None = None


class WorkerFacts(NamedTuple):
    """The worker that holds a running job."""

    id: int
    hostname: str
    pid: int
    alive: bool
    heartbeat_at: datetime


class EligibleWorkers(NamedTuple):
    """The live workers that can run a job and listen to its runway: its queue's, or where it runs alone.

    Attributes:
        slots, busy: of them all, threads or, for a job of an async type, async slots; how many are taken.
        dedicated: some of them serve nothing but the quarantine.
        queues: which queues any live worker listens to.
        quiet: further workers, that were told to take no more jobs.
        ignorant: further workers, that do not know its type.
        outdated: further workers, that know its type and cannot read its payload.
        unlabelled: further workers, that could read it and have not all labels that it requires.
        small: further workers, that have all of them and fewer slots than it takes.
        labels: of the unlabelled ones, each set of labels that there is, and how many workers have it.
        most_slots: of the small ones.
        is_async: its jobs run on event loops there, and take async slots.
        queue_slots: the jobs of its queue, of whatever type, that all workers of it run at once.
    """

    runway: str
    workers: int = 0
    slots: int = 0
    busy: int = 0
    dedicated: bool = False
    queues: Sequence[str] = ()
    quiet: int = 0
    ignorant: int = 0
    outdated: int = 0
    unlabelled: int = 0
    small: int = 0
    most_slots: int = 0
    labels: Sequence[tuple[Sequence[str], int]] = ()
    is_async: bool = False
    queue_slots: int = 0

    @property
    def free(self) -> int:
        """The number of slots that no job has."""
        return self.slots - self.busy

    @property
    def slot_name(self) -> str:
        """The name of what its jobs take: a thread, or a slot of an event loop."""
        return "async slot" if self.is_async else "thread"

    @property
    def slots_key(self) -> str:
        """The name of the number of slots in the evidence of a reason."""
        return "async_slots" if self.is_async else "threads"


class SlotHolder(NamedTuple):
    """A job that holds a slot.

    Attributes:
        status: running, or let_in: it was let in and has not started.
        since: when it started.
    """

    id: int
    status: str
    since: datetime | None


class LimitFacts(NamedTuple):
    """A concurrency limit that is reached.

    Attributes:
        kind: queue, key, type or namespace.
        name: of the queue, the key, the type or the namespace.
        holders: the first of those that hold its slots.
        cost: how many of them the job takes.
    """

    kind: str
    name: str
    number: int
    held: int
    holders: tuple[SlotHolder, ...]
    cost: int = 1


class RateFacts(NamedTuple):
    """A rate limit that does not afford the next start.

    Attributes:
        kind: queue or key.
        cost: of the job that is next: the one in question, or the first of its queue.
        next_id: that job.
        used: by starts in the window; None for a token bucket.
        level: of a token bucket; None for a window.
        let_in: by jobs that were let in and have not started.
        free_in_seconds: when it affords the start; None: jobs that were let in have to start first.
    """

    kind: str
    name: str
    limit: RateLimit
    cost: int
    next_id: int
    used: int | None
    level: float | None
    let_in: int
    free_in_seconds: float | None


class Blocker(NamedTuple):
    """The older job of the same key that has to end first, and why it does not."""

    id: int
    explanation: Explanation


class Parent(NamedTuple):
    """A job that this one waits for; without a status its row is gone."""

    id: int
    status: JobStatus | None
    queue: str | None
    type: str | None


class CollectedFacts(NamedTuple):
    """The payloads of a job that collects.

    Attributes:
        payloads: how many it has.
        most: it starts as soon as it has so many.
        until: it takes no more then.
    """

    payloads: int
    most: int
    until: datetime


class Position(NamedTuple):
    """The job's place in the order of its queue: how many jobs come before it.

    Attributes:
        ahead: exact below `counted_up_to`; where keys take turns, at most so many.
        counted_up_to: counting stopped there.
        own: of these, jobs of its own key; None: keys do not take turns.
        other_keys: how many other keys have ready jobs; counting stops at `KEYS_COUNTED_UP_TO`.
    """

    ahead: int
    counted_up_to: int
    own: int | None = None
    other_keys: int = 0


@dataclass(frozen=True, slots=True)
class Facts:
    """All facts about a job together; what plays no part for its status is left out.

    Attributes:
        now: PostgreSQL's time.
        eligible: the workers that could run it; of one that runs alone, who serves the quarantine.
        parents: what a blocked job waits for.
        collected: what a job has that waits for the payloads of further creates.
        held: slots of its queue.
        starts_per_second: of the queue, over the last minute.
        led: some scheduler leads; None: not asked.
        batch_wait_ms: for how long a batch of its type waits for further jobs; None: as far as this process
            knows, it is not batched.
    """

    now: datetime
    job: JobFacts
    max_deaths: int = 3
    attempt: AttemptFacts | None = None
    queue: QueueFacts = field(default_factory=QueueFacts)
    type: TypeFacts | None = None
    worker: WorkerFacts | None = None
    eligible: EligibleWorkers = field(default_factory=lambda: EligibleWorkers(""))
    parents: tuple[Parent, ...] = ()
    collected: CollectedFacts | None = None
    blocker: Blocker | None = None
    limits: tuple[LimitFacts, ...] = ()
    held: int = 0
    rates: tuple[RateFacts, ...] = ()
    position: Position | None = None
    starts_per_second: float | None = None
    led: bool | None = None
    batch_wait_ms: float | None = None
