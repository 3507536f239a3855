"""The number of workers that a queue needs, as an autoscaler asks for it, with all that it follows from."""

from __future__ import annotations

import math
from typing import Annotated, Any

import falcon
from pydantic import BaseModel, ConfigDict, Field

from goqueue.api.frame.answers import Document, Seconds, as_json, reader_of
from goqueue.api.frame.resource import Resource
from goqueue.config.labels import by_name, labels_of
from goqueue.engine.options.request_models import validate
from goqueue.errors import InvalidJobError
from goqueue.insight.autoscale import (
    ASSUMED_RUN_SECONDS,
    DEFAULT_SLO_WAIT_SECONDS,
    MAX_ASSUMED_RUN_SECONDS,
    MAX_WINDOW_SECONDS,
    WINDOW_SECONDS,
    Autoscale,
    LabelNeed,
    LimitedBy,
    RunTimes,
)
from goqueue.insight.autoscaling import slots_per_worker
from goqueue.insight.gauge_rows import COUNTED_UP_TO

MAX_THREADS_PER_WORKER = 65_536

#: At most 20 labels of 128 characters.
MAX_LABELS_LENGTH = 2_560


class AutoscaleQuery(BaseModel):
    """The query of GET /queues/{name}/autoscale."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    threads_per_worker: Annotated[
        Annotated[int, Field(ge=1, le=MAX_THREADS_PER_WORKER)] | None,
        Field(
            description="The threads of one `goqueue worker`, or its slots where async types are declared "
            "for the queue. Default: worker_processes times worker_threads of the API's own settings, or "
            "times the slots of the newest process."
        ),
    ] = None
    window_seconds: Annotated[
        float,
        Field(
            ge=10,
            le=MAX_WINDOW_SECONDS,
            allow_inf_nan=False,
            description="How far back, and ahead, arrivals are counted.",
        ),
    ] = WINDOW_SECONDS
    assumed_run_seconds: Annotated[
        float,
        Field(
            gt=0,
            le=MAX_ASSUMED_RUN_SECONDS,
            allow_inf_nan=False,
            description="The mean run of a job, where none has ended and none runs.",
        ),
    ] = ASSUMED_RUN_SECONDS
    labels: Annotated[
        str | None,
        Field(
            max_length=MAX_LABELS_LENGTH,
            description="Of a group of workers, as GOQUEUE_WORKER_LABELS has them: the answer is for the "
            "jobs that require some of these labels and no others, and for workers that have them. Empty: "
            "for jobs that require none, and workers without labels.",
        ),
    ] = None


class ObjectiveDocument(Document):
    """What waits should be."""

    slo_wait_seconds: Seconds
    slo_objective: float
    is_default: Annotated[
        bool, Field(description=f"The queue has no slo_wait_seconds: {DEFAULT_SLO_WAIT_SECONDS:g} is taken.")
    ]


class ArrivalsDocument(Document):
    """What arrival_rate follows from: created / created_seconds + due / due_seconds."""

    window_seconds: Seconds
    created: Annotated[int, Field(description="Jobs that came and could start at once.")]
    created_seconds: Annotated[
        Seconds, Field(description="In this time: the window, or less where they are very many.")
    ]
    due: Annotated[int, Field(description="Jobs whose time (a run-at, a retry) comes")]
    due_seconds: Annotated[Seconds, Field(description="within this time from now.")]


class RunsDocument(Document):
    """What service_rate follows from."""

    source: Annotated[
        RunTimes,
        Field(description="Attempts that ended; only what runs, as none has ended; or an assumption."),
    ]
    mean_seconds: Annotated[Seconds, Field(description="The mean run of a job: 1 / service_rate.")]
    ended: Annotated[int, Field(description="The newest attempts of the queue that ended.")]
    ended_seconds: Annotated[Seconds, Field(description="How long they ran, all together.")]
    running_seconds: Annotated[
        Seconds, Field(description="For how long the jobs that run have, all together.")
    ]
    assumed_seconds: Annotated[Seconds, Field(description="The mean run where nothing is known.")]


class LabelNeedDocument(Document):
    """The need of the jobs that require the same labels, by themselves."""

    requires: Annotated[dict[str, str], Field(description="The labels that they require.")]
    backlog: int
    running: int
    arrival_rate: float
    slots: Annotated[
        int, Field(description="Of live workers with all of these labels, which may have other jobs too.")
    ]
    threads_needed: int
    missing: Annotated[int, Field(description="threads_needed less slots, where that is too few.")]


class AutoscaleDocument(Document):
    """How many workers a queue needs for its objective, and what that follows from."""

    queue: str
    backlog: Annotated[int, Field(description=f"Jobs that could start now, counted up to {COUNTED_UP_TO:,}.")]
    oldest_age_seconds: Annotated[
        Seconds, Field(description="For how long the oldest of the next jobs could have started.")
    ]
    running: int
    arrival_rate: Annotated[float, Field(description="Jobs a second that want to start.")]
    service_rate: Annotated[float, Field(description="Jobs a second that one busy thread ends.")]
    load: Annotated[float, Field(description="Threads that are busy on average: their quotient, in Erlang.")]
    workers: Annotated[int, Field(description="Live worker processes that serve the queue.")]
    threads: Annotated[int, Field(description="Their threads.")]
    slots: Annotated[
        int,
        Field(
            description="Jobs of the queue that they run at once: on threads, on event loops (async types), "
            "or both. Where they are async slots, so are the threads that are needed."
        ),
    ]
    threads_per_worker: Annotated[
        int, Field(description="Of one `goqueue worker`, all its processes: threads, or slots as above.")
    ]
    threads_for_arrivals: Annotated[
        int, Field(description="By Erlang C: so that the objective is kept by what arrives.")
    ]
    threads_for_backlog: Annotated[
        int, Field(description="So that the backlog is gone within slo_wait_seconds while jobs arrive.")
    ]
    threads_needed: Annotated[
        int, Field(description="The larger of both; at least one for each running job.")
    ]
    workers_needed: Annotated[int, Field(description="threads_needed / threads_per_worker, rounded up.")]
    limited_by: Annotated[
        LimitedBy | None, Field(description="Why no more would help: the queue is paused, or has a limit.")
    ]
    kept_now: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="The part of arrivals that is expected to keep the wait with the present slots, "
            "by Erlang C; the backlog is not regarded.",
        ),
    ]
    kept_then: Annotated[float, Field(ge=0, le=1, description="And with threads_needed.")]
    labels: Annotated[
        list[LabelNeedDocument],
        Field(
            description="What jobs need that require labels, by these; the largest lack first, at most 20."
        ),
    ]
    objective: ObjectiveDocument
    arrivals: ArrivalsDocument
    runs: RunsDocument


def _labels_of(text: str | None) -> dict[str, str] | None:
    try:
        return None if text is None else labels_of(text)
    except ValueError as error:
        raise InvalidJobError({"labels": str(error)}) from None


_objective_of = reader_of(ObjectiveDocument, slo_wait_seconds="wait_seconds", slo_objective="part")
_arrivals_of = reader_of(
    ArrivalsDocument,
    window_seconds="arrivals_seconds",
    created="arrivals",
    created_seconds="arrivals_seconds",
)
_runs_of = reader_of(
    RunsDocument,
    source="demand.run_times",
    mean_seconds="run_seconds",
    ended="demand.ended",
    ended_seconds="demand.ended_seconds",
    running_seconds="demand.running_seconds",
    assumed_seconds="run_seconds",
)


def autoscale_document(queue: str, answer: Autoscale, query: AutoscaleQuery, threads: int) -> dict[str, Any]:
    """An AutoscaleDocument; `threads`: of one worker."""
    demand = answer.demand
    return {
        "queue": queue,
        "backlog": demand.backlog,
        "oldest_age_seconds": demand.oldest_age_seconds,
        "running": demand.running,
        "arrival_rate": demand.arrival_rate,
        "service_rate": 1 / answer.run_seconds,
        "load": demand.arrival_rate * answer.run_seconds,
        "workers": demand.workers,
        "threads": demand.threads,
        "slots": demand.slots,
        "threads_per_worker": threads,
        "threads_for_arrivals": answer.threads_for_arrivals,
        "threads_for_backlog": answer.threads_for_backlog,
        "threads_needed": answer.threads_needed,
        "workers_needed": math.ceil(answer.threads_needed / threads),
        "limited_by": answer.limited_by,
        "kept_now": answer.kept_now,
        "kept_then": answer.kept_then,
        "labels": [_label_need(need) for need in answer.label_needs],
        "objective": _objective_of(answer.objective),
        "arrivals": _arrivals_of(demand) | {"window_seconds": query.window_seconds},
        "runs": _runs_of(answer) | {"assumed_seconds": query.assumed_run_seconds},
    }


def _label_need(need: LabelNeed) -> dict[str, Any]:
    demand = need.answer.demand
    return {
        "requires": by_name(need.requires),
        "backlog": demand.backlog,
        "running": demand.running,
        "arrival_rate": demand.arrival_rate,
        "slots": demand.slots,
        "threads_needed": need.answer.threads_needed,
        "missing": need.missing,
    }


class AutoscaleResource(Resource):
    """The workers that a queue needs for its objective."""

    def on_get(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """The number, and everything that it follows from."""
        query = validate(AutoscaleQuery, request.params, whole="query")
        settings = self._goqueue.settings
        answer = self._goqueue.autoscale(
            name,
            window_seconds=query.window_seconds,
            assumed_run_seconds=query.assumed_run_seconds,
            labels=_labels_of(query.labels),
        )
        threads = query.threads_per_worker or slots_per_worker(answer, settings)
        response.data = as_json(autoscale_document(name, answer, query, threads))
