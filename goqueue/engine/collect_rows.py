"""Jobs that collect: a create whose key a waiting job has puts its payload beside that job's own.

The keys are locked (`unique_rows.lock`), so only one create at a time looks at a list. A worker's claim does
not ask for keys: it and the append meet at the job's row. Whoever comes first has it; an append that waited
for a claim finds the job begun, and the payload goes to a new job.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from sqlalchemy import Connection

from goqueue.contents.contents import of_payload
from goqueue.contents.payload_keys import key_id_of
from goqueue.db.fragments import rank_of
from goqueue.db.statements import FIRST, contents_of, fetch_all, fetch_one
from goqueue.errors import UniqueKeyHeldError
from goqueue.jobs import CollectRule, JobStatus, NewJob

__all__ = ["CollectedList", "open_lists", "write"]

# Locked in the order of their ids, as all jobs are. A claim raises the fence, and nothing lowers it.
_HOLDERS = """
    SELECT wanted.key, job.id, job.type, job.status, job.fence, held.collect_max, held.collect_max_bytes,
           octet_length(job.payload::text),
           CASE WHEN json_typeof(job.payload -> wanted.field) = 'array'
               THEN json_array_length(job.payload -> wanted.field) END,
           starts_with(job.payload::text, wanted.opening) AND right(job.payload::text, 2) = ']}',
           CASE WHEN job.payload_key IS NOT NULL THEN job.payload::text END
    FROM json_to_recordset(%(wanted)s::json) AS wanted (key text, field text, opening text)
    CROSS JOIN LATERAL (
        SELECT job_id, states, until, collect_max, collect_max_bytes
        FROM unique_keys WHERE unique_keys.key = wanted.key LIMIT 1
    ) AS held
    JOIN jobs AS job ON job.id = held.job_id
    WHERE job.status = ANY (held.states) AND (held.until > now()) IS NOT FALSE
    ORDER BY job.id FOR UPDATE OF job
"""

# What is full starts now: only a queued job has a place in the order.
_WRITE = f"""
    UPDATE jobs SET updated_at = now(),
        payload = coalesce(%(payload)s::json, (left(payload::text, -2) || %(added)s || ']}}')::json),
        payload_key = coalesce(%(payload_key)s, payload_key),
        available_at = CASE WHEN %(full)s THEN LEAST(available_at, now()) ELSE available_at END,
        rank = CASE WHEN status = 'queued' AND %(full)s AND rank IS NULL
            THEN GREATEST({FIRST}, {rank_of("LEAST(available_at, now())")}) ELSE rank END
    WHERE id = %(id)s RETURNING id
"""


@dataclass(slots=True)
class CollectedList:
    """The payloads of a job that waits, or of one that is about to be inserted, and how much it still takes.

    Attributes:
        payloads, size: how many it has, and the bytes of its JSON text.
        holder: the job that exists; None: it is the new job at `place`.
        added: the texts that creates of this transaction brought.
        is_full: it takes no more, and starts.
        opened: the payload of a holder that is encrypted in its row; None: that is not.
    """

    bounds: CollectRule
    payloads: int
    size: int
    holder: tuple[int, str, JobStatus] | None = None
    place: int = 0
    added: list[str] = field(default_factory=list)
    is_full: bool = False
    opened: str | None = None

    def take(self, job: NewJob) -> bool:
        """Take the payloads of a create, all or none; what cannot take them is full."""
        text, number = _payloads_of(job, self.bounds.field)
        size = self.size + len(text.encode()) + 1
        if self.is_full or self.payloads + number > self.bounds.max_payloads or size > self.bounds.max_bytes:
            self.is_full = True
            return False
        self.added.append(text)
        self.payloads += number
        self.size = size
        self.is_full = self.payloads == self.bounds.max_payloads
        return True

    @classmethod
    def of_new(cls, job: NewJob, place: int) -> CollectedList:
        """Begin the list of a new job, which has its own payloads whatever their size is."""
        assert job.unique is not None
        assert job.unique.collect is not None
        bounds = job.unique.collect
        _, number = _payloads_of(job, bounds.field)
        is_full = number == bounds.max_payloads
        return cls(bounds, number, len(job.payload.encode()), place=place, is_full=is_full)

    def payload_of(self, job: NewJob) -> str:
        """Return the payload of the new job with everything that was added."""
        return ",".join([job.payload[:-2], *self.added]) + "]}"


def open_lists(connection: Connection, jobs: Sequence[NewJob]) -> dict[str, CollectedList]:
    """Lock the jobs that have the keys of these creates, which collect and are locked: key → list.

    A key is left out where nobody has it, or a job that a worker has had: it takes no more.

    Raises:
        UniqueKeyHeldError: the holder is of another type, or collects nothing.
        UndecryptableError: it is encrypted, and this process has not its key.
    """
    by_key = {job.unique.key: job for job in jobs if job.unique is not None}
    wanted = [
        {"key": key, "field": bounds.field, "opening": _opening(bounds.field)}
        for key, job in by_key.items()
        if job.unique is not None and (bounds := job.unique.collect) is not None
    ]
    rows = fetch_all(connection, _HOLDERS, {"wanted": orjson.dumps(wanted).decode()})
    found = {row[0]: _list_of(_opened(connection, row), by_key[row[0]]) for row in rows}
    return {key: taken for key, taken in found.items() if taken is not None}


def _opened(connection: Connection, row: Sequence[Any]) -> Sequence[Any]:
    """What was read of a holder, as it would be if that were not encrypted; and its payload, if it is."""
    *others, most, most_bytes, _, _, _, payload = row
    if payload is None:
        return row
    text = contents_of(connection).opened(payload, of_payload(row[2]))
    lists = [value for value in orjson.loads(text).values() if isinstance(value, list)]
    payloads = len(lists[0]) if lists else None
    is_list = bool(lists) and text.endswith("]}")
    return [*others, most, most_bytes, len(text.encode()), payloads, is_list, text]


def _list_of(row: Sequence[Any], job: NewJob) -> CollectedList | None:
    _, job_id, job_type, status, fence, most, most_bytes, size, payloads, is_list, opened = row
    if fence > 0:
        return None
    if job_type != job.type:
        raise UniqueKeyHeldError(
            job_id, f"the unique key is held by job {job_id}, which is of the type {job_type}"
        )
    if most is None or not is_list or not payloads:
        raise UniqueKeyHeldError(
            job_id, f"the unique key is held by job {job_id}, which collects no payloads"
        )
    assert job.unique is not None
    assert job.unique.collect is not None
    name, seconds = job.unique.collect.field, job.unique.collect.seconds
    bounds = CollectRule(name, seconds, most, most_bytes)
    holder = (job_id, job_type, JobStatus(status))
    return CollectedList(bounds, payloads, size, holder=holder, opened=opened)


def write(connection: Connection, lists: Mapping[int, CollectedList]) -> None:
    """Write what was added to jobs that exist: id → list; what is full starts."""
    for job_id, collected in sorted(lists.items()):
        added = "".join(f",{text}" for text in collected.added)
        if added or collected.is_full:
            said = {"id": job_id, "added": added, "full": collected.is_full}
            fetch_one(connection, _WRITE, said | _closed(connection, collected, added))


def _closed(connection: Connection, collected: CollectedList, added: str) -> dict[str, str | None]:
    """The whole payload of a holder that is encrypted in its row, with what was added; of others, nothing."""
    if collected.opened is None or collected.holder is None:
        return {"payload": None, "payload_key": None}
    text = f"{collected.opened[:-2]}{added}]}}"
    payload = contents_of(connection).closed(text, of_payload(collected.holder[1]))
    return {"payload": payload, "payload_key": key_id_of(payload)}


def _opening(name: str) -> str:
    return orjson.dumps({name: []}).decode()[:-2]


def _payloads_of(job: NewJob, name: str) -> tuple[str, int]:
    """The text between the brackets of a create's list, and how many payloads it has."""
    return job.payload[len(_opening(name)) : -2], len(orjson.loads(job.payload)[name])
