"""Statistics, metrics, liveness, readiness, and what an operator should be warned of."""

from __future__ import annotations

from dataclasses import asdict
from functools import cache
from typing import Annotated, Any, Literal

import falcon
from pydantic import Field

from goqueue.api.frame.answers import Document, Seconds, as_json
from goqueue.api.frame.reading import Reading
from goqueue.api.frame.resource import Resource
from goqueue.api.frame.security import principal_of
from goqueue.config.settings import Settings
from goqueue.db import bounded_reads
from goqueue.db.database import Database, expect_primary
from goqueue.errors import RedisUnavailableError, SchemaBehindError
from goqueue.insight import gauge_rows as gauges
from goqueue.insight import statistic_rows as statistics
from goqueue.instance import GoQueue
from goqueue.migrations.upgrade import current_revision, head_revision
from goqueue.observability.shared_metrics import CONTENT_TYPE, exposition

#: A transaction that is older than a minute is not much older after this.
HORIZON_GOOD_FOR_SECONDS = 5.0

#: So often Redis is asked for the health checks.
REDIS_GOOD_FOR_SECONDS = 1.0

#: A health check waits no longer for what it only adds.
WARNINGS_WAIT_SECONDS = 0.25

WarningTexts = Annotated[
    list[str], Field(description="What an operator should look at, though the service works.", default=[])
]


class HealthReportDocument(Document):
    """The process answers; and what is known to be wrong around it."""

    status: Literal["ok"]
    warnings: WarningTexts


class LivenessDocument(Document):
    """The process answers."""

    status: Literal["ok"]


class ReadinessDocument(Document):
    """The process can take requests: PostgreSQL answers, and its schema is not behind this release."""

    status: Literal["ok"]
    redis: Annotated[
        Literal["ok", "unavailable"],
        Field(description="Jobs are accepted without Redis as well, and start when it is back."),
    ]
    namespaces: Annotated[
        dict[Literal["ready", "unavailable"], int] | None,
        Field(description="How many of several namespaces can be served; one is enough.", default=None),
    ]
    warnings: WarningTexts


class JobCounts(Document):
    """Counts of jobs: exact, up to `counted_up_to`, but for those that are named in `estimated`."""

    ready: int
    waiting: int
    quarantined: int
    blocked: int
    running: int
    failed: int
    cancelled: int
    expired: int


class FinishedCounts(Document):
    """Jobs that became final."""

    completed: int
    failed: int
    cancelled: int
    expired: int


class StatsDocument(Document):
    """The service at a glance."""

    counts: JobCounts
    counted_up_to: Annotated[int, Field(description="A count of this number means: this many or more.")]
    completed_estimate: Annotated[int, Field(description="From the planner's statistics, not counted.")]
    finished_last_minute: FinishedCounts
    oldest_ready_age_seconds: Seconds | None
    workers: int
    threads: int
    busy: int
    async_slots: Annotated[
        int, Field(description="Async jobs that the workers run at once, beside those of their threads.")
    ]
    async_busy: Annotated[int, Field(description="Async slots that are taken.")]
    estimated: Annotated[
        list[str],
        Field(
            description="Counts that the scheduler made a few seconds ago, because they are many; with "
            "finished_last_minute, the last minute that was counted."
        ),
    ]


class Warnings:
    """The warnings of what is wrong around the service although it works."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._limit_seconds = settings.horizon_warning_seconds
        self._database = database
        self._horizon = Reading(self._ask, max_age_seconds=HORIZON_GOOD_FOR_SECONDS)

    def known(self) -> dict[str, list[str]]:
        """Return the member `warnings` of an answer; empty where there is none."""
        age_seconds = self._horizon.soon(WARNINGS_WAIT_SECONDS)
        if age_seconds is None or age_seconds < self._limit_seconds:
            return {}
        return {"warnings": [f"a transaction has held back vacuum for {age_seconds:.0f} s"]}

    def _ask(self) -> float:
        with self._database.autocommit() as connection:
            return gauges.horizon_age(connection)


class StatsResource(Resource):
    """The service at a glance."""

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Return bounded counts, an estimate of the completed, and the last minute."""
        response.data = as_json(stats_document(self._goqueue))


def stats_document(goqueue: GoQueue) -> dict[str, Any]:
    """Read what GET /stats answers."""
    with goqueue.read_database.transaction() as connection:
        bounded_reads.along_indexes(connection)
        found = statistics.of_service(connection, lease_seconds=goqueue.settings.lease_seconds)
    return asdict(found) | {"counted_up_to": statistics.COUNTED_UP_TO}


class MetricsResource:
    """The metrics that Prometheus reads.

    Args:
        service: the collector of the gauges of the whole service.
        of_all: a collector of gauges about all namespaces, for who may act in them.
        counts: whether what the API's processes counted is told; not to one namespace of several, since they
            count the requests of all.
    """

    def __init__(self, service: Any, of_all: Any = None, *, counts: bool = True) -> None:
        self._service = service
        self._of_all = of_all
        self._counts = counts

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Write what the API's processes counted, and the gauges of the whole service."""
        tells_all = self._of_all is not None and principal_of(request).governs_namespaces
        collectors = [self._service, self._of_all] if tells_all else [self._service]
        response.content_type = CONTENT_TYPE
        response.data = exposition(*collectors, counts=self._counts)


class HealthResource:
    """The health of this process: it answers, and tells what it knows to be wrong."""

    def __init__(self, warnings: Warnings) -> None:
        self._warnings = warnings

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Answer, with the warnings that are known."""
        response.data = as_json({"status": "ok"} | self._warnings.known())


class DatabaseHealthResource:
    """The health of PostgreSQL: it answers, and accepts writes."""

    def __init__(self, goqueue: GoQueue, warnings: Warnings) -> None:
        self._goqueue = goqueue
        self._warnings = warnings

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Ask PostgreSQL; 503 where it does not answer, or accepts no writes."""
        with self._goqueue.database.autocommit() as connection:
            expect_primary(connection)
        response.data = as_json({"status": "ok"} | self._warnings.known())


class LivenessResource:
    """The liveness of this process: one that answers should go on."""

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Answer whatever PostgreSQL and Redis do: to start this process again would not mend them."""
        response.data = as_json({"status": "ok"})


class ReadinessResource:
    """The readiness of this process: whether requests should be sent to it."""

    def __init__(self, goqueue: GoQueue, warnings: Warnings) -> None:
        self._goqueue = goqueue
        self._warnings = warnings
        self._redis_answers = Reading(self._ask_redis, max_age_seconds=REDIS_GOOD_FOR_SECONDS)

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Ask PostgreSQL, and for its schema; 503 where it does not answer, accepts no writes or is behind.

        Redis is asked and told of, no more: without it jobs are accepted all the same, and nobody would
        accept them if every process said that it is not ready.
        """
        expect_ready(self._goqueue)
        document: dict[str, Any] = {"status": "ok", "redis": self._redis()}
        response.data = as_json(document | self._warnings.known())

    def _redis(self) -> str:
        return "ok" if self._redis_answers.soon(WARNINGS_WAIT_SECONDS) else "unavailable"

    def _ask_redis(self) -> bool:
        try:
            self._goqueue.runway.ping()
        except RedisUnavailableError:
            return False
        return True


def expect_ready(goqueue: GoQueue) -> None:
    """See that PostgreSQL answers, accepts writes, and has the schema of this release.

    Raises:
        DatabaseUnavailableError: it does not answer, or accepts no writes.
        SchemaBehindError: its schema is behind.
    """
    with goqueue.database.autocommit() as connection:
        expect_primary(connection)
        current = current_revision(connection)
    if current is None or current < _head_revision():
        raise SchemaBehindError(f"the schema is at {current}, and this release needs {_head_revision()}")


@cache
def _head_revision() -> str:
    return head_revision() or ""
