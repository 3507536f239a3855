"""The filter that says which jobs are meant, and the SQL that it becomes.

A filter is a range of ids along the one index that leaves the least to be filtered (`range_rows.py`), and
conditions on the rows of that range. The statements are put together from constants, so that each has only
the conditions that it needs; a status is written into the text, because the planner uses a partial index only
for a condition that it sees.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, NamedTuple, Self

from pydantic import AfterValidator, ConfigDict, Field, PrivateAttr
from sqlalchemy import Connection

from goqueue.contents.payload_keys import ENCRYPTED
from goqueue.db.statements import array, contents_of, fetch_one, text_array
from goqueue.engine.listing import payload_index_rows
from goqueue.engine.listing.confidence import conditions_of_confidence, hiding
from goqueue.engine.listing.job_search import SEARCH_MAX_CHARACTERS, parse_payload
from goqueue.engine.listing.range_rows import Asked, counting_range_of, range_of
from goqueue.engine.options.request_models import PRINTABLE, JobId, Moment, Name, Request, Tag
from goqueue.jobs import JobStatus

__all__ = [
    "MAX_IDS",
    "ErrorSearch",
    "Fingerprint",
    "JobFilter",
    "PayloadSearch",
    "SearchText",
    "Status",
    "Terms",
    "terms_of",
]

MAX_IDS = 10_000

#: Ids are given out in the order of time, except that a transaction gives its rows the time of its start.
#: The rows of one that stayed open for longer than this may be missed by the filters on `created_at`.
LONGEST_TRANSACTION = "interval '1 hour'"


# The first id whose row, and so every later one, was created at a time or later: about twenty steps down the
# primary key instead of an index that every insert would pay for.
_FIRST_ID_SINCE = """
    WITH RECURSIVE bisection (low, high) AS (
        SELECT coalesce(min(id), 0), coalesce(max(id), 0) + 1 FROM jobs
        UNION ALL
        SELECT CASE WHEN probe.created_at < {moment} THEN probe.id + 1 ELSE low END,
               CASE WHEN probe.created_at < {moment} THEN high ELSE low + (high - low) / 2 END
        FROM bisection CROSS JOIN LATERAL (
            SELECT id, created_at FROM jobs WHERE id >= low + (high - low) / 2 ORDER BY id LIMIT 1
        ) AS probe
        WHERE low < high
    )
    SELECT max(low) FROM bisection
"""


def _each_once(ids: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(set(ids)))


SearchText = Annotated[str, Field(min_length=1, max_length=SEARCH_MAX_CHARACTERS, pattern=PRINTABLE)]
Fingerprint = Annotated[str, Field(pattern="^[0-9a-f]{16}$")]
Status = Annotated[JobStatus, Field(strict=False)]
Ids = Annotated[
    tuple[JobId, ...], Field(min_length=1, max_length=MAX_IDS, strict=False), AfterValidator(_each_once)
]
PayloadSearch = Annotated[
    SearchText | None,
    Field(
        description="A value of the payload, by its path: user.country:DE; or else, or in quotes, a part of "
        "the payload's text. Encrypted payloads and redacted fields are not searched."
    ),
]
ErrorSearch = Annotated[SearchText | None, Field(description="A part of the error, in any case.")]


class JobFilter(Request):
    """A choice of jobs; a field that is None does not matter.

    Attributes:
        created_after, created_before: the first belongs to the range, the second does not.
        fingerprint: the group of dead letters; it implies the status failed.
        ids: only these.
        payload: what the payload holds, as `goqueue.engine.listing.job_search.parse_payload` reads it.
        error: a part of the error, in any case.
    """

    model_config = ConfigDict(frozen=True)

    queue: Name | None = None
    type: Name | None = None
    status: Status | None = None
    created_after: Moment | None = None
    created_before: Moment | None = None
    fingerprint: Annotated[Fingerprint | None, Field(description="A group of failed jobs.")] = None
    ids: Annotated[Ids | None, Field(description="Only these, where the rest fits.")] = None
    tag: Tag | None = None
    payload: PayloadSearch = None
    error: ErrorSearch = None

    # Not of a request, nor of anything that is kept: whoever asks is told of no others.
    _only_queues: frozenset[str] | None = PrivateAttr(None)
    _only_types: frozenset[str] | None = PrivateAttr(None)

    @property
    def searches(self) -> bool:
        """Whether the filter asks for what no index has: each row of its range has to be looked at."""
        return self.payload is not None or self.error is not None

    @property
    def is_open(self) -> bool:
        """Whether it says nothing beside a status: all jobs, or all of that status."""
        return all(value is None for name, value in self if name != "status")

    @property
    def narrowings(self) -> list[tuple[str, str, frozenset[str]]]:
        """The only queues and types that there are for whoever asks, each with a name and its column."""
        columns = (
            ("only_queues", "jobs.queue", self._only_queues),
            ("only_types", "jobs.type", self._only_types),
        )
        return [(name, column, only) for name, column, only in columns if only is not None]

    def within(self, queues: frozenset[str] | None, types: frozenset[str] | None) -> Self:
        """Make the same filter of jobs of only these queues and types; None is all of them."""
        narrower = self.model_copy()
        narrower._only_queues, narrower._only_types = queues, types  # noqa: SLF001  (its own class)
        return narrower

    def with_status(self, status: JobStatus | None) -> Self:
        """Make the same filter of another status."""
        return self.model_copy(update={"status": status})


class Terms(NamedTuple):
    """The parts of a filter as SQL.

    Attributes:
        source: what stands behind FROM; `jobs` is a name in it.
        ids_source: the same where only the ids matter.
        range: the walk along an index; it takes the parameters `above` and `below`, which are outside of it.
        conditions: what the rows of the range have to meet besides; the cheap ones first.
        above, below: the ids between which all of them are.
    """

    source: str
    ids_source: str
    range: str
    conditions: tuple[str, ...]
    newest_first: str
    oldest_first: str
    above: int
    below: int
    parameters: dict[str, Any]

    def format(self, template: str) -> str:
        """A statement that walks the range and has the conditions checked on the way."""
        return template.format(
            source=self.source,
            ids_source=self.ids_source,
            range=self.range,
            fits=" AND ".join(self.conditions) or "true",
            conditions=" AND ".join((self.range, *self.conditions)),
            newest_first=self.newest_first,
            oldest_first=self.oldest_first,
        )

    def between(self, above: int, below: int) -> dict[str, Any]:
        """The parameters of a part of the range."""
        return self.parameters | {"above": max(above, self.above), "below": min(below, self.below)}


def terms_of(
    connection: Connection,
    wanted: JobFilter,
    *,
    longest: str = LONGEST_TRANSACTION,
    ordered: bool = True,
) -> Terms:
    """Make the SQL of a filter.

    Args:
        connection: is asked which of several indexes leads to few rows.
        wanted: the filter.
        longest: how long a transaction that created jobs stayed open at most.
        ordered: whether the rows are wanted in the order of their ids, or only counted.
    """
    status = wanted.status if wanted.fingerprint is None else JobStatus.FAILED
    asked = Asked(
        wanted.queue, wanted.type, status, wanted.fingerprint, wanted.tag, has_ids=wanted.ids is not None
    )
    path, text = parse_payload(wanted.payload or "")
    ids = None
    if not asked.has_ids and wanted.fingerprint is None:
        ids = payload_index_rows.range_by(connection, wanted.type, path, text)
    ids = ids or (range_of if ordered else counting_range_of)(connection, asked)
    conditions = list(_conditions_beside(ids.implied, wanted, status))
    above, below = 0, 2**63 - 1
    if wanted.created_after is not None:
        conditions.insert(0, "created_at >= %(after)s")
        above = _first_id(connection, wanted.created_after, f"- {longest}") - 1
    if wanted.created_before is not None:
        conditions.insert(0, "created_at < %(before)s")
        below = _first_id(connection, wanted.created_before, f"+ {longest}")
    contents = contents_of(connection)
    # They stand before what has to open a payload.
    conditions[:0] = conditions_of_confidence(contents, wanted.payload, wanted.type, path)
    parameters = {
        "confidential": text_array(hiding(contents, path)),
        "redacting": text_array(tuple(sorted(contents.redacted))),
        "queue": wanted.queue,
        "type": wanted.type,
        "fingerprint": wanted.fingerprint,
        "ids": array(wanted.ids or ()),
        "tag": wanted.tag,
        "path": list(path),
        "text": text,
        "error": wanted.error,
        "after": wanted.created_after,
        "before": wanted.created_before,
    }
    for name, column, only in wanted.narrowings:
        conditions.append(f"{column} = ANY (%({name})s::text[])")
        parameters[name] = text_array(tuple(sorted(only)))
    order = ids.newest_first, ids.oldest_first
    return Terms(
        ids.source, ids.ids_source, ids.condition, tuple(conditions), *order, above, below, parameters
    )


def _conditions_beside(implied: frozenset[str], wanted: JobFilter, status: JobStatus | None) -> Iterator[str]:
    """What a filter says beside the range of ids and the times; last what has to open a payload."""
    if status is not None and "status" not in implied:
        yield f"status = '{status.value}'"
    if wanted.queue is not None and "queue" not in implied:
        # A tag has a queue as well.
        yield "jobs.queue = %(queue)s"
    if wanted.type is not None and "type" not in implied:
        yield "type = %(type)s"
    if wanted.ids is not None and "ids" not in implied:
        yield "id = ANY(%(ids)s::bigint[])"
    if wanted.tag is not None and "tag" not in implied:
        yield "%(tag)s = ANY (tags)"
    if wanted.error is not None:
        yield f"strpos(lower(error), lower(%(error)s)) > 0 AND NOT starts_with(error, '{ENCRYPTED}')"
    if wanted.payload is not None:
        # What is encrypted holds texts that mean nothing.
        yield "payload_key IS NULL"
        yield _payload_condition(wanted.payload)


def _payload_condition(said: str) -> str:
    path, text = parse_payload(said)
    if not path:
        return "strpos(payload::text, %(text)s) > 0"
    # The null of JSON has no text of its own.
    value = "payload #>> %(path)s::text[]" if text != "null" else "(payload #> %(path)s::text[])::text"
    return f"{value} = %(text)s"


def _first_id(connection: Connection, moment: datetime, shift: str) -> int:
    """The first id since a moment that is shifted by an interval."""
    sql = _FIRST_ID_SINCE.format(moment=f"(%(moment)s::timestamptz {shift})")
    row = fetch_one(connection, sql, {"moment": moment})
    assert row is not None
    return int(row[0])
