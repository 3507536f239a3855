"""Failed jobs in groups, and one group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import falcon

from goqueue.api.failure_models import FailuresQuery
from goqueue.api.schemas import validate
from goqueue.dashboard.page import Page
from goqueue.dashboard.queue_form import Blanks
from goqueue.dashboard.tracebacks import parsed
from goqueue.errors import InvalidJobError
from goqueue.jobs import MAX_JOB_ID, QUARANTINE_QUEUE
from goqueue.rules.ranges import RANGES
from goqueue.store import failure_groups, job_summaries
from goqueue.store.failure_groups import ShownGroup
from goqueue.store.failures import FINGERPRINT_PATTERN, FailureFilter, Order
from goqueue.store.job_lists import JobFilter
from goqueue.store.job_walks import walk
from goqueue.store.rows import current_time

__all__ = ["FailurePage", "FailuresPage"]

GROUPS_SHOWN = 100

JOBS_SHOWN = 20

#: What a page may be asked for.
FIELDS = ("queue", "type", "since", "order")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which groups are shown.

    Attributes:
        filter: without `since`, where that is a span.
        back: shown is what failed in so long a time.
    """

    filter: FailureFilter
    order: Order
    back: timedelta | None = None

    def at(self, now: datetime) -> FailureFilter:
        """The filter at a moment."""
        if self.back is None:
            return self.filter
        return FailureFilter(self.filter.queue, self.filter.type, now - self.back)


class FailuresPage(Page):
    """All groups of the jobs that are failed now."""

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """The page; what is wrong about its address is told beside the field."""
        said = {name: request.get_param(name) or "" for name in FIELDS}
        wanted, wrong = Wanted(FailureFilter(), "last_seen"), Blanks()
        try:
            wanted = _wanted(said)
        except InvalidJobError as error:
            response.status = falcon.HTTP_400
            wrong = Blanks(error.fields)
        groups = [] if wrong else self._site.shared.get(("failures", wanted), lambda: self._read(wanted))
        self._renderer.page(
            request,
            response,
            "failures.html",
            groups=groups[:GROUPS_SHOWN],
            has_more=len(groups) > GROUPS_SHOWN,
            shown=GROUPS_SHOWN,
            said=said,
            is_filtered=any(said[name] for name in ("queue", "type", "since")),
            spans=[(one.name, f"the last {one.words}") for one in RANGES.values()],
            wrong=wrong,
            queues=sorted(self._context.queues.declared() - {QUARANTINE_QUEUE}),
            types=sorted(self._context.broker.job_types),
        )

    def _read(self, wanted: Wanted) -> list[ShownGroup]:
        with self._context.read_database.autocommit() as connection:
            now = current_time(connection)
            return failure_groups.shown(
                connection, wanted.at(now), order=wanted.order, limit=GROUPS_SHOWN + 1
            )


class FailurePage(Page):
    """One group."""

    def on_get(self, request: falcon.Request, response: falcon.Response, fingerprint: str) -> None:
        """What failed, where, and the newest of its jobs."""
        group = traceback = None
        jobs: list[job_summaries.JobSummary] = []
        with self._context.read_database.autocommit() as connection:
            found = []
            if FINGERPRINT_PATTERN.fullmatch(fingerprint):
                found = failure_groups.shown(connection, FailureFilter(fingerprint=fingerprint), limit=1)
            if found:
                group = found[0]
                kind: failure_groups.ShownGroup | failure_groups.ShownKind = group
                traceback = failure_groups.traceback_of(connection, group.newest_job_id)
                newest = walk(
                    connection, JobFilter(fingerprint=fingerprint), limit=JOBS_SHOWN, below=MAX_JOB_ID
                )
                jobs = job_summaries.of(connection, newest.ids)
            else:
                kind = failure_groups.kind_of(connection, fingerprint)
        self._renderer.page(
            request,
            response,
            "failure.html",
            fingerprint=fingerprint,
            group=group,
            kind=kind,
            jobs=jobs,
            traceback=None if traceback is None else parsed(traceback),
            traceback_text=traceback,
        )


def _wanted(said: Mapping[str, str]) -> Wanted:
    """What an address asks for.

    Raises:
        InvalidJobError: something about it is wrong.
    """
    given = {name: value for name, value in said.items() if value}
    span = RANGES.get(given.get("since", ""))
    if span is not None:
        given.pop("since")
    query = validate(FailuresQuery, given, whole="query")
    found = FailureFilter(query.queue, query.type, query.since)
    back = None if span is None else timedelta(seconds=span.seconds)
    return Wanted(found, query.order, back)
