"""The ranges of ids along which jobs are looked for, and which one leaves the least to be filtered.

Each range is said as rows where its index begins with other columns: that is to insist on the index. With
`queue = …` the planner often walks the primary key and expects a job of the queue every few steps; a million
newer jobs of other queues would stand before the first.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection

from goqueue.db.fragments import LATER, READY_JOBS, RUNNING_JOBS, SUSPECT
from goqueue.db.statements import FINGERPRINT, fetch_one
from goqueue.jobs import JobStatus

__all__ = ["FEW", "Asked", "Range", "counting_range_of", "range_of"]

#: A set of jobs up to this size is taken whole and put in order; counting so far takes a tenth of a
#: millisecond.
FEW = 1_000

# These have indexes of their own, and are rare (jobs_rare_idx, and those by queue and by type).
_UNSUCCESSFUL = frozenset({JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.EXPIRED, JobStatus.BLOCKED})


class Range(NamedTuple):
    """A range of ids along an index: where its rows are, its condition, and its order.

    Attributes:
        implied: the conditions of a filter that every row of the range meets.
        ids_source: where the rows are, as far as only their ids matter; the index alone is read.
    """

    source: str
    condition: str
    newest_first: str
    oldest_first: str
    implied: frozenset[str] = frozenset()
    ids_source: str = "jobs"


class Asked(NamedTuple):
    """The fields of a filter that an index knows."""

    queue: str | None
    type: str | None
    status: JobStatus | None
    fingerprint: str | None
    tag: str | None
    has_ids: bool


def _along(*columns: str, status: JobStatus | None = None, implied: frozenset[str]) -> Range:
    """A range along an index of these columns and the id; of a partial one, with the status that it wants."""
    names = ", ".join(column for column, _ in map(_named, columns))
    above = ", ".join(value for _, value in map(_named, columns))
    condition = f"({names}, id) > ({above}, %(above)s) AND ({names}, id) < ({above}, %(below)s)"
    if status is not None:
        # A partial index is used where the statement says its condition.
        condition = f"rare_state = '{status.value}' AND {condition}"
    newest_first = ", ".join(f"{column} DESC" for column, _ in map(_named, columns))
    return Range("jobs", condition, f"{newest_first}, id DESC", f"{names}, id", implied)


def _named(column: str) -> tuple[str, str]:
    """A column, or `rare_state=failed`, and the parameter or the constant that it is compared with."""
    name, _, constant = column.partition("=")
    return (name, f"'{constant}'") if constant else (name, f"%({name})s")


# By the primary key.
_BY_ID = Range("jobs", "id > %(above)s AND id < %(below)s", "id DESC", "id")

_BY_IDS = _BY_ID._replace(
    condition=f"{_BY_ID.condition} AND id = ANY(%(ids)s::bigint[])", implied=frozenset({"ids"})
)

# jobs_queue_id_idx. There is none by type alone: an index of all jobs is written at the insert, the claim and
# the record, which costs a tenth of what PostgreSQL spends on a short job.
_BY_QUEUE = _along("queue", implied=frozenset({"queue"}))

# One group of dead letters, in the order of ids.
_BY_FINGERPRINT = Range(
    "jobs",
    f"rare_state = 'failed' AND ({FINGERPRINT}, id) > (%(fingerprint)s, %(above)s) "
    f"AND ({FINGERPRINT}, id) < (%(fingerprint)s, %(below)s)",
    f"{FINGERPRINT} DESC, id DESC",
    f"{FINGERPRINT}, id",
    frozenset({"status", "fingerprint"}),
)

_LOOKED_UP = "CROSS JOIN LATERAL (SELECT * FROM jobs WHERE jobs.id = {ids}.job_id LIMIT 1) AS jobs"

# The jobs of a tag, in the order of ids, each looked up by its id: the LIMIT keeps the planner from joining
# the tables as wholes.
_BY_TAG = Range(
    f"job_tags {_LOOKED_UP.format(ids='job_tags')}",
    "job_tags.tag = %(tag)s AND job_tags.job_id > %(above)s AND job_tags.job_id < %(below)s",
    "job_tags.job_id DESC",
    "job_tags.job_id",
    frozenset({"tag"}),
    "job_tags",
)

# Those of a tag in a queue (job_tags_queue_idx).
_TAG_AND_QUEUE = "(job_tags.tag, job_tags.queue, job_tags.job_id)"
_BY_TAG_AND_QUEUE = Range(
    _BY_TAG.source,
    f"{_TAG_AND_QUEUE} > (%(tag)s, %(queue)s, %(above)s) "
    f"AND {_TAG_AND_QUEUE} < (%(tag)s, %(queue)s, %(below)s)",
    "job_tags.tag DESC, job_tags.queue DESC, job_tags.job_id DESC",
    "job_tags.tag, job_tags.queue, job_tags.job_id",
    frozenset({"tag", "queue"}),
    "job_tags",
)

# A release before 0012 writes no queue beside a tag: of such a tag all jobs are looked at.
_HAS_NO_QUEUE = "SELECT EXISTS (SELECT FROM job_tags WHERE tag = %(tag)s AND queue IS NULL)"

# Not `id` alone: a generic plan, which does not know how far apart the two ids are, would read that part of
# the primary key as well, and that may be all of it.
_RUNNING = Range(
    RUNNING_JOBS,
    "status = 'running' AND id + 0 > %(above)s AND id + 0 < %(below)s",
    "id + 0 DESC",
    "id + 0",
    frozenset({"status"}),
)


def _queued(queue: str | None) -> Range:
    """The queued jobs, by the table and the indexes of their states, in no order of their own."""
    of_queue = "" if queue is None else " AND queue = %(queue)s"

    def of_states(columns: str, ready: str) -> str:
        rows = (f"{ready} WHERE true", *(f"jobs WHERE {state}" for state in (SUSPECT, LATER)))
        states = (f"SELECT {columns} FROM {each}{of_queue}" for each in rows)
        return f"({' UNION ALL '.join(states)}) AS jobs"

    return Range(
        of_states("jobs.*", READY_JOBS),
        "jobs.id > %(above)s AND jobs.id < %(below)s",
        "jobs.id DESC",
        "jobs.id",
        frozenset({"status"} if queue is None else {"status", "queue"}),
        of_states("id", "(SELECT job_id AS id, queue_name AS queue FROM ready_jobs) AS jobs"),
    )


def range_of(connection: Connection, asked: Asked) -> Range:
    """Choose the index to walk in the order of ids: the one that leaves the least to be filtered."""
    if asked.has_ids:
        return _BY_IDS
    if asked.fingerprint is not None:
        return _BY_FINGERPRINT
    other = _BY_ID if asked.queue is None else _BY_QUEUE
    return _by_tag(connection, asked) or _by_status(connection, asked) or other


def counting_range_of(connection: Connection, asked: Asked) -> Range:
    """Choose the range whose rows are counted: their order does not matter."""
    if asked.status is JobStatus.QUEUED and asked.tag is None and not asked.has_ids:
        return _queued(asked.queue)
    return range_of(connection, asked)


def _by_tag(connection: Connection, asked: Asked) -> Range | None:
    """The range of a tag, where nothing else is rarer."""
    if asked.tag is None:
        return None
    if asked.queue is not None:
        without_queue = fetch_one(connection, _HAS_NO_QUEUE, {"tag": asked.tag})
        return _BY_TAG if without_queue == (True,) else _BY_TAG_AND_QUEUE
    is_rare = asked.status in _UNSUCCESSFUL or asked.status is JobStatus.RUNNING
    return None if is_rare and not _has_few(connection, _BY_TAG, asked) else _BY_TAG


def _by_status(connection: Connection, asked: Asked) -> Range | None:
    """The range of a status that has indexes of its own; of queued jobs, where there are few of them."""
    if asked.status is JobStatus.RUNNING:
        return _RUNNING
    if asked.status is JobStatus.QUEUED and _has_few(connection, _queued(asked.queue), asked):
        return _queued(asked.queue)
    if asked.status not in _UNSUCCESSFUL or asked.status is None:
        return None
    own = f"rare_state={asked.status.value}"
    if asked.queue is not None:
        return _along(own, "queue", status=asked.status, implied=frozenset({"queue", "status"}))
    if asked.type is not None:
        return _along(own, "type", status=asked.status, implied=frozenset({"type", "status"}))
    return _along(own, status=asked.status, implied=frozenset({"status"}))


def _has_few(connection: Connection, along: Range, asked: Asked) -> bool:
    """Whether a range holds few rows, wherever they are."""
    sql = (
        f"SELECT count(*) FROM (SELECT FROM {along.ids_source} "
        f"WHERE {along.condition} LIMIT {FEW + 1}) AS counted"
    )
    parameters = asked._asdict() | {"above": 0, "below": 2**63 - 1}
    row = fetch_one(connection, sql, parameters)
    assert row is not None
    return int(row[0]) <= FEW
