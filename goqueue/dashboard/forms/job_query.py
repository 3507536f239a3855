"""The address of a list of jobs: what its parameters say, and how it is written again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import urlencode

from pydantic import BeforeValidator, ConfigDict, Field

from goqueue.api.schemas import FilterQuery
from goqueue.engine.listing.filters import JobFilter
from goqueue.engine.listing.job_search import parse_search, written
from goqueue.engine.options.request_models import QueryMoment, validate
from goqueue.errors import InvalidJobError
from goqueue.jobs import MAX_JOB_ID, JobStatus

__all__ = ["FIELDS", "JobQuery", "address", "filter_parameters", "in_words", "query_of", "read_query"]

#: The parameters that are a filter.
FIELDS = (
    "queue",
    "type",
    "status",
    "tag",
    "payload",
    "error",
    "fingerprint",
    "created_after",
    "created_before",
)

#: As a browser writes a field of date and time, which has no zone.
_MOMENT = "%Y-%m-%dT%H:%M:%S"


def _utc(value: Any) -> Any:
    """What has no zone is UTC, and seconds may be left out."""
    try:
        at = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return value
    return value if at.tzinfo else at.replace(tzinfo=UTC).isoformat()


Moment = Annotated[QueryMoment, BeforeValidator(_utc)]
Place = Annotated[int, Field(ge=0, le=MAX_JOB_ID)]


class JobQuery(FilterQuery):
    """The query of a list: a filter, and where the page is."""

    model_config = ConfigDict(extra="ignore")

    created_after: Moment | None = None
    created_before: Moment | None = None
    before: Place | None = None
    after: Place | None = None

    def job_filter(self) -> JobFilter:
        """Return the filter that the query says."""
        return JobFilter(**{name: getattr(self, name) for name in FIELDS})


def query_of(parameters: Mapping[str, Any]) -> JobQuery:
    """Return the query of the parameters of an address or of a form.

    Raises:
        InvalidJobError: with the wrong parameters.
    """
    given = {
        name: value[-1] if isinstance(value, list) else value
        for name, value in parameters.items()
        if name in JobQuery.model_fields and value
    }
    query = validate(JobQuery, given, whole="query")
    if query.fingerprint is not None and query.status not in {None, JobStatus.FAILED}:
        raise InvalidJobError({"status": "a group of failures has only failed jobs"})
    return query


def read_query(text: str, parameters: Mapping[str, Any]) -> int | dict[str, str]:
    """Read the search field beside the other parameters: the id of a job, or the parameters.

    Raises:
        InvalidJobError: the text cannot be read.
    """
    search = parse_search(text)
    if search.problem is not None:
        raise InvalidJobError({"q": search.problem})
    if search.job_id is not None:
        return search.job_id
    # The field holds the whole of what is searched in payloads and errors.
    others = {name: str(value) for name, value in parameters.items() if name in FIELDS and value}
    others.pop("payload", None)
    others.pop("error", None)
    return others | search.fields


def filter_parameters(wanted: JobFilter) -> dict[str, str]:
    """Return the parameters that say a filter."""
    said = {}
    for name in FIELDS:
        value = getattr(wanted, name)
        if value is not None:
            said[name] = f"{value.astimezone(UTC):{_MOMENT}}" if isinstance(value, datetime) else str(value)
    return said


def address(wanted: JobFilter, **place: Any) -> str:
    """Return the address of a list."""
    query = urlencode(filter_parameters(wanted) | place)
    return f"/dashboard/jobs?{query}" if query else "/dashboard/jobs"


def in_words(wanted: JobFilter) -> list[tuple[str, str]]:
    """Say a filter for people: (name, value)."""
    words = [
        (name.replace("_", " "), value)
        for name, value in filter_parameters(wanted).items()
        if name not in {"payload", "error"}
    ]
    if wanted.payload is not None:
        words.append(("payload", written(payload=wanted.payload).removeprefix("payload.")))
    if wanted.error is not None:
        words.append(("error", wanted.error))
    if wanted.ids is not None:
        words.append(("ids", f"{len(wanted.ids):,} jobs"))
    return words
