"""Failed jobs in groups, and one group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from urllib.parse import urlencode

import falcon

from goqueue.api.failures import FailuresQuery
from goqueue.api.frame.security import principal_of
from goqueue.dashboard.forms.queue import Blanks
from goqueue.dashboard.page import Page, one_moment
from goqueue.dashboard.parts.errors import parsed
from goqueue.db.statements import current_time
from goqueue.engine.listing.filters import JobFilter
from goqueue.engine.listing.walk_rows import walk
from goqueue.engine.options.request_models import validate
from goqueue.errors import InvalidJobError
from goqueue.insight import failure_group_rows as failure_groups
from goqueue.insight import job_summary_rows as job_summaries
from goqueue.insight.failure_group_rows import ShownGroup, ShownKind
from goqueue.insight.failure_rows import FINGERPRINT_PATTERN, FailureFilter, Order
from goqueue.insight.ranges import RANGES
from goqueue.jobs import MAX_JOB_ID, QUARANTINE_QUEUE

__all__ = ["FailurePage", "FailuresPage"]

GROUPS_SHOWN = 100

JOBS_SHOWN = 20

#: What a page may be asked for.
FIELDS = ("queue", "type", "since", "order")

#: What of it goes along to the page of a group.
CHOICE = ("queue", "type", "since")


@dataclass(frozen=True, slots=True)
class WantedFailures:
    """The choice of the groups that are shown.

    Attributes:
        filter: without `since`, where that is a span.
        back: shown is what failed in so long a time.
    """

    filter: FailureFilter
    order: Order
    back: timedelta | None = None

    def at(self, now: datetime) -> FailureFilter:
        """Return the filter at a moment."""
        if self.back is None:
            return self.filter
        return FailureFilter(self.filter.queue, self.filter.type, now - self.back)


class FailuresPage(Page):
    """The page of all groups of the jobs that are failed now."""

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Show the groups; what is wrong about the address is told beside the field."""
        said = {name: request.get_param(name) or "" for name in FIELDS}
        wanted, wrong = WantedFailures(FailureFilter(), "last_seen"), Blanks()
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
            kept=_address_of({name: said[name] for name in CHOICE}),
            queues=sorted(self._goqueue.queues.declared() - {QUARANTINE_QUEUE}),
            types=sorted(self._goqueue.types.all_types()),
        )

    def _read(self, wanted: WantedFailures) -> list[ShownGroup]:
        with one_moment(self._goqueue.read_database) as connection:
            now = current_time(connection)
            return failure_groups.shown(
                connection, wanted.at(now), order=wanted.order, limit=GROUPS_SHOWN + 1
            )


class FailurePage(Page):
    """The page of one group of failures."""

    def on_get(self, request: falcon.Request, response: falcon.Response, fingerprint: str) -> None:
        """Show what failed, where, and the newest of its jobs; of those alone that the list was asked for.

        Raises:
            InvalidJobError: something about the address is wrong.
            FailureNotFoundError: no job has failed like this.
        """
        said = {name: request.get_param(name) or "" for name in CHOICE}
        group = self._read(fingerprint, _wanted(said))
        traceback = group.traceback if principal_of(request).reads_contents else None
        self._renderer.page(
            request,
            response,
            "failure.html",
            fingerprint=fingerprint,
            group=group.shown,
            kind=group.kind,
            jobs=group.jobs,
            choice=_in_words(said),
            traceback=None if traceback is None else parsed(traceback),
            traceback_text=traceback,
        )

    def _read(self, fingerprint: str, wanted: WantedFailures) -> _Group:
        with one_moment(self._goqueue.read_database) as connection:
            found = wanted.at(current_time(connection))
            groups = []
            if FINGERPRINT_PATTERN.fullmatch(fingerprint):
                groups = failure_groups.shown(connection, replace(found, fingerprint=fingerprint), limit=1)
            if not groups:
                return _Group(failure_groups.kind_of(connection, fingerprint))
            (group,) = groups
            chosen = JobFilter(fingerprint=fingerprint, queue=found.queue, type=found.type)
            newest = walk(connection, chosen, limit=JOBS_SHOWN, below=MAX_JOB_ID)
            jobs = [
                job
                for job in job_summaries.of(connection, newest.ids)
                if found.since is None or (job.finished_at is not None and job.finished_at >= found.since)
            ]
            traceback = failure_groups.traceback_of(connection, group.newest_job_id)
            return _Group(group, group, jobs, traceback)


@dataclass(frozen=True, slots=True)
class _Group:
    """What the page of a group shows.

    Attributes:
        shown: None where no job is failed like this.
    """

    kind: ShownGroup | ShownKind
    shown: ShownGroup | None = None
    jobs: Sequence[job_summaries.JobSummary] = ()
    traceback: str | None = None


def _address_of(said: Mapping[str, str]) -> str:
    """What was said, as the query of an address; nothing where nothing was."""
    query = urlencode({name: value for name, value in said.items() if value})
    return f"?{query}" if query else ""


def _in_words(said: Mapping[str, str]) -> list[str]:
    """Which jobs are shown, for people: "in the last hour", "in queue mail"."""
    since = said["since"]
    words = {
        "since": f"in the last {RANGES[since].words}" if since in RANGES else f"since {since}",
        "queue": f"in queue {said['queue']}",
        "type": f"of type {said['type']}",
    }
    return [told for name, told in words.items() if said[name]]


def _wanted(said: Mapping[str, str]) -> WantedFailures:
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
    return WantedFailures(found, query.order, back)
