"""Models of the lease protocol: the requests of remote workers, and the answers to them."""

from __future__ import annotations

from itertools import combinations
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from goqueue.api.frame.answers import CONTENTS, WITHHELD, Document, Seconds
from goqueue.config.labels import LABEL_NAME, LABEL_VALUE, MAX_LABELS, MAX_VERSION
from goqueue.engine.options.request_models import Name, Request, Span
from goqueue.jobs import MAX_SLOTS, AttemptOutcome, JobStatus
from goqueue.remote.reported_failure import Ending

LEASE_MAX_JOBS = 100
WAIT_MAX_SECONDS = 60.0
MAX_TYPES = 1_000
MAX_TOKENS = 1_000
MAX_LINES = 1_000
ERROR_MAX_CHARACTERS = 4_000
TRACEBACK_MAX_CHARACTERS = 32_000
LINE_MAX_CHARACTERS = 65_536
TEXT_MAX_CHARACTERS = 1_000
LANGUAGE_MAX_CHARACTERS = 60

Token = Annotated[str, Field(min_length=1, max_length=4_096)]
RunSeconds = Annotated[
    Annotated[float, Field(ge=0, le=10**9, allow_inf_nan=False)] | None,
    Field(description="How long its handler ran. Null: since the job was leased."),
]


class LeaseJobs(Request):
    """What a worker can run, and how much it wants of it."""

    worker: Annotated[
        Name,
        Field(description="What this process calls itself: host, process number, and when it started."),
    ]
    types: Annotated[
        list[Name], Field(min_length=1, max_length=MAX_TYPES, description="The job types that it knows.")
    ]
    limit: Annotated[int, Field(ge=1, le=LEASE_MAX_JOBS, description="At most so many jobs.")] = 1
    wait_seconds: Annotated[
        Seconds,
        Field(ge=0, le=WAIT_MAX_SECONDS, description="How long to wait for the first, where there is none."),
    ] = 0.0
    slots: Annotated[
        int,
        Field(ge=1, le=MAX_SLOTS, description="How many jobs it runs at once; the same in all its calls."),
    ] = 1
    labels: Annotated[
        dict[Annotated[str, Field(pattern=LABEL_NAME)], Annotated[str, Field(pattern=LABEL_VALUE)]],
        Field(
            default_factory=dict, max_length=MAX_LABELS, description="What it is, for jobs that require it."
        ),
    ]
    version: Annotated[
        int, Field(ge=0, le=MAX_VERSION, description="For jobs that need one at least; 0: it says none.")
    ] = 0
    language: Annotated[
        Annotated[str, Field(max_length=LANGUAGE_MAX_CHARACTERS, pattern=r"^[^\x00-\x1f\x7f]*$")] | None,
        Field(description="What it is written in, for people."),
    ] = None
    goodbye: Annotated[
        bool, Field(description="It ends: it gets no job, and what it holds is taken back at once.")
    ] = False


class Heartbeat(Request):
    """Further jobs that the heartbeat of one speaks for."""

    tokens: Annotated[list[Token], Field(default_factory=list, max_length=MAX_TOKENS)]


class CompleteJob(Request):
    """The result of a job."""

    result: Annotated[Any, Field(description="Any JSON value.")] = None
    run_seconds: RunSeconds = None


class CompletedLease(CompleteJob):
    """A job of several that completed."""

    token: Token


class CompleteJobs(Request):
    """Jobs that completed."""

    leases: Annotated[list[CompletedLease], Field(min_length=1, max_length=LEASE_MAX_JOBS)]


_FLAGS = ("discard", "cancelled", "interrupted")


def _at_most_one_way() -> dict[str, Any]:
    """Say in a schema what `FailJob` asks: of a wait and the flags that are true, at most one is given."""
    flags = ({"properties": {flag: {"const": True}}, "required": [flag]} for flag in _FLAGS)
    wait = {"properties": {"retry_after": {"not": {"type": "null"}}}, "required": ["retry_after"]}
    return {"allOf": [{"not": {"allOf": list(pair)}} for pair in combinations([wait, *flags], 2)]}


class FailJob(Request):
    """An attempt that did not complete; without any of the flags, its type decides whether it runs again."""

    model_config = ConfigDict(json_schema_extra=_at_most_one_way())

    error: Annotated[str, Field(max_length=ERROR_MAX_CHARACTERS)] = "the remote worker gave no reason"
    error_type: Annotated[
        Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.]{0,99}$")] | None,
        Field(description="The class of the error."),
    ] = None
    traceback: Annotated[str, Field(max_length=TRACEBACK_MAX_CHARACTERS)] | None = None
    retry_after: Annotated[
        Span | None, Field(description="Seconds until it runs again, instead of the backoff of its type.")
    ] = None
    discard: Annotated[bool, Field(description="It failed for good.")] = False
    cancelled: Annotated[bool, Field(description="It was stopped because a heartbeat said so.")] = False
    interrupted: Annotated[
        bool, Field(description="Its worker stops: it goes back, and no attempt is spent.")
    ] = False
    run_seconds: RunSeconds = None

    @model_validator(mode="after")
    def _expect_one_way(self) -> Self:
        if sum((self.retry_after is not None, self.discard, self.cancelled, self.interrupted)) > 1:
            raise PydanticCustomError(
                "ways", "expected at most one of retry_after, discard, cancelled, interrupted"
            )
        return self

    @property
    def ending(self) -> Ending:
        """The way in which the attempt ended."""
        flags = {
            Ending.DISCARDED: self.discard,
            Ending.CANCELLED: self.cancelled,
            Ending.INTERRUPTED: self.interrupted,
        }
        return next((ending for ending, flag in flags.items() if flag), Ending.FAILED)


class ReportProgress(Request):
    """How far a job has come."""

    progress: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
    message: Annotated[str, Field(max_length=TEXT_MAX_CHARACTERS)] | None = None


class LogLines(Request):
    """Lines for the log of an attempt."""

    lines: Annotated[
        list[Annotated[str, Field(max_length=LINE_MAX_CHARACTERS)]],
        Field(min_length=1, max_length=MAX_LINES),
    ]


class LeasedJobDocument(Document):
    """A job that a worker holds from now on."""

    token: Annotated[str, Field(description="What all that is said of this attempt is addressed to.")]
    id: int
    queue: str
    type: str
    attempt: Annotated[int, Field(description="The number of this run, from 1.")]
    max_retries: int
    fence: Annotated[int, Field(description="Rises with each lease of the job; side effects may go by it.")]
    payload: Annotated[dict[str, Any] | None, CONTENTS, Field(description=WITHHELD)]
    time_limit_seconds: Annotated[
        float | None, Field(description="How long it may run, by itself or its type; the worker sees to it.")
    ]
    deadline_seconds: Annotated[
        float | None, Field(description="After so long its deadline has passed. Null: it has none.")
    ]
    traceparent: Annotated[str | None, Field(description="The trace that it belongs to.")]


class LeasesDocument(Document):
    """The jobs that a worker got, perhaps none, and what is wanted of it."""

    worker_id: Annotated[int, Field(description="Its row among the workers.")]
    lease_seconds: Annotated[
        float, Field(description="A job of which nothing was heard for so long is given to another worker.")
    ]
    heartbeat_seconds: Annotated[float, Field(description="How often to send a heartbeat for each job.")]
    quiet: Annotated[bool, Field(description="It gets no jobs for now.")]
    stop: Annotated[bool, Field(description="It gets no more jobs, and shall end.")]
    jobs: list[LeasedJobDocument]


class HeartbeatDocument(Document):
    """What is wanted of a worker and of the jobs that it named."""

    lease_seconds: float
    cancel: Annotated[bool, Field(description="Somebody wants this job stopped.")]
    quiet: Annotated[bool, Field(description="The worker gets no jobs for now.")]
    stop: Annotated[bool, Field(description="The worker gets no more jobs, and shall end.")]
    cancelled_tokens: Annotated[list[str], Field(description="Those of `tokens` that are to be stopped.")]
    lost_tokens: Annotated[list[str], Field(description="Those of `tokens` that are not held any more.")]


class EndDocument(Document):
    """The end of an attempt, and the state of its job then."""

    job_id: int
    outcome: AttemptOutcome
    status: Annotated[JobStatus, Field(description="`queued`: it runs again.")]


class EndsDocument(Document):
    """The ends of several attempts, in the order in which they were said."""

    completed: list[EndDocument]
    lost_tokens: Annotated[list[str], Field(description="Those not held any more, and what are no tokens.")]


class LoggedDocument(Document):
    """The lines that were kept."""

    kept: int
    cut: Annotated[int, Field(description="Lines that did not fit any more, in part or as a whole.")]
