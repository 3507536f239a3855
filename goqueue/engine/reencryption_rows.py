"""Rotation of the keys that contents of jobs are encrypted with: the work, and how much each key still has.

A job is encrypted anew in one transaction that holds its row, together with all that is kept of it. A worker
that records it meanwhile waits for that, and writes with its own first key: what a process wrote that still
has another one first is found by the next order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection

from goqueue.contents.contents import JobContents, of_job, of_options, of_payload, of_schedule
from goqueue.contents.payload_keys import ENCRYPTED, PayloadKeys, key_id_of
from goqueue.db.statements import ENCRYPTED_OPTIONS, array, contents_of, fetch_all, fetch_one
from goqueue.errors import UndecryptableError

__all__ = ["ReencryptionStep", "reencrypt_jobs", "reencrypt_schedules", "uses", "uses_of_schedules"]

_NEXT = """
    SELECT id FROM jobs WHERE payload_key IS NOT NULL AND id > %(after_id)s ORDER BY id LIMIT %(limit)s
"""


class Part(NamedTuple):
    """A table that has something of what a job holds.

    Attributes:
        job: the column of the id of the job.
        keys: the columns that tell its rows of one job apart.
        columns: expression of a text → the column, and what it is called in the purpose of its envelope.
    """

    table: str
    job: str
    keys: tuple[str, ...]
    columns: Mapping[str, str]


_PARTS = (
    Part(
        "jobs", "id", (), {"payload": "payload", "result": "result", "error": "error", "options": "options"}
    ),
    Part("job_versions", "job_id", ("version",), {"payload": "payload"}),
    Part("attempts", "job_id", ("fence",), {"error": "error", "traceback": "traceback"}),
    Part("attempt_logs", "job_id", ("fence", "line"), {"text": "log"}),
    Part("job_output", "job_id", ("fence", "chunk"), {"text": "output"}),
    Part("attempt_progress", "job_id", ("fence",), {"message": "progress"}),
)
_JSON = frozenset({"payload", "result", "options"})


def _text_of(column: str) -> str:
    """A column as the text of its envelope, where it has one."""
    return f"({column} ->> '{ENCRYPTED_OPTIONS}')" if column == "options" else f"{column}::text"


def _is_of_another(column: str) -> str:
    text = _text_of(column)
    return f"(starts_with({text}, '{ENCRYPTED}') AND NOT starts_with({text}, %(begin)s))"


def _has_another(part: Part) -> str:
    return " OR ".join(map(_is_of_another, part.columns))


# The columns of jobs are looked at in the row, those of the other tables by the ids of the jobs.
_IN_NEED = (
    "SELECT id FROM jobs WHERE id = ANY (%(ids)s::bigint[]) AND ("
    + " OR ".join(
        [_has_another(_PARTS[0])]
        + [
            f"EXISTS (SELECT FROM {p.table} WHERE {p.job} = jobs.id AND ({_has_another(p)}))"
            for p in _PARTS[1:]
        ]
    )
    + ") ORDER BY id"
)

_LOCK = "SELECT type FROM jobs WHERE id = %(id)s FOR UPDATE"

# How many jobs hold something of a key: exact, because it reads the begin of every envelope of a job.
_KEYS_OF_JOBS = (
    "SELECT jobs.id, ARRAY (SELECT DISTINCT used.begin FROM ("
    + " UNION ALL ".join(
        f"SELECT left({_text_of(column)}, %(length)s) AS begin "
        + (f"FROM {part.table} WHERE {part.job} = jobs.id" if part.table != "jobs" else "")
        for part in _PARTS
        for column in part.columns
    )
    + f") AS used WHERE starts_with(used.begin, '{ENCRYPTED}')) FROM jobs WHERE id = ANY (%(ids)s::bigint[])"
)
_BEGIN_LENGTH = 80


class ReencryptionStep(NamedTuple):
    """The result of a step over encrypted jobs.

    Attributes:
        after_id: the last one that was looked at; None: there were none.
        done, undecryptable: how many were encrypted anew, and how many could not be.
    """

    after_id: int | None
    done: int = 0
    undecryptable: int = 0


def reencrypt_jobs(connection: Connection, *, after_id: int, limit: int) -> ReencryptionStep:
    """Encrypt with the first key what the next jobs hold of other keys, in a transaction."""
    found = fetch_all(connection, _NEXT, {"after_id": after_id, "limit": limit})
    if not found:
        return ReencryptionStep(None)
    contents = contents_of(connection)
    ids = array(row[0] for row in found)
    in_need = fetch_all(connection, _IN_NEED, {"ids": ids, "begin": _begin_of_first(contents)})
    results = [_reencrypt_job(connection, contents, row[0]) for row in in_need]
    return ReencryptionStep(found[-1][0], sum(results), len(results) - sum(results))


def reencrypt_schedules(connection: Connection) -> ReencryptionStep:
    """Encrypt with the first key the payloads of schedules of other keys, in a transaction."""
    contents = contents_of(connection)
    sql = f"SELECT id, name, payload::text FROM schedules WHERE {_is_of_another('payload')} FOR UPDATE"
    done = undecryptable = 0
    for schedule_id, name, payload in fetch_all(connection, sql, {"begin": _begin_of_first(contents)}):
        try:
            closed = _anew(contents, payload, of_schedule(name))
        except UndecryptableError:
            undecryptable += 1
            continue
        update = "UPDATE schedules SET payload = %(payload)s::json WHERE id = %(id)s RETURNING id"
        fetch_one(connection, update, {"id": schedule_id, "payload": closed})
        done += 1
    return ReencryptionStep(None, done, undecryptable)


def uses(connection: Connection, *, after_id: int, limit: int) -> tuple[int | None, dict[str, int]]:
    """Count which keys the next encrypted jobs hold something of.

    Returns:
        The last job that was looked at, or None: there were none; and key → jobs.
    """
    found = fetch_all(connection, _NEXT, {"after_id": after_id, "limit": limit})
    if not found:
        return None, {}
    parameters = {"ids": array(row[0] for row in found), "length": _BEGIN_LENGTH}
    counts: dict[str, int] = {}
    for _, begins in fetch_all(connection, _KEYS_OF_JOBS, parameters):
        for key_id in {key_id_of(begin) for begin in begins} - {None}:
            counts[str(key_id)] = counts.get(str(key_id), 0) + 1
    return found[-1][0], counts


def uses_of_schedules(connection: Connection) -> dict[str, int]:
    """Count how many schedules each key encrypts the payload of."""
    sql = f"""
        SELECT payload ->> '$encrypted', count(*)::int FROM schedules
        WHERE starts_with(payload::text, '{ENCRYPTED}') GROUP BY 1
    """
    return {row[0]: row[1] for row in fetch_all(connection, sql, {})}


def _reencrypt_job(connection: Connection, contents: JobContents, job_id: int) -> bool:
    """Encrypt anew what a job holds; False: something of it cannot be decrypted, and all stays as it is."""
    locked = fetch_one(connection, _LOCK, {"id": job_id})
    if locked is None:
        return True
    try:
        changes = [
            (part, row, _closed_row(contents, part, row, job_id, locked[0]))
            for part in _PARTS
            for row in _rows_of(connection, contents, part, job_id)
        ]
    except UndecryptableError:
        return False
    for part, row, closed in changes:
        _write(connection, part, row, closed, job_id)
    fetch_one(
        connection,
        "UPDATE jobs SET payload_key = %(key)s WHERE id = %(id)s RETURNING id",
        {"key": _keys_of(contents).encrypting_id, "id": job_id},
    )
    return True


def _rows_of(
    connection: Connection, contents: JobContents, part: Part, job_id: int
) -> Sequence[Sequence[Any]]:
    texts = [f"CASE WHEN {_is_of_another(column)} THEN {_text_of(column)} END" for column in part.columns]
    sql = f"SELECT {', '.join([*part.keys, *texts])} FROM {part.table} WHERE {part.job} = %(id)s"
    rows = fetch_all(connection, sql, {"id": job_id, "begin": _begin_of_first(contents)})
    return [row for row in rows if any(text is not None for text in row[len(part.keys) :])]


def _closed_row(
    contents: JobContents, part: Part, row: Sequence[Any], job_id: int, type_name: str
) -> dict[str, str]:
    """The new envelopes of a row, by their columns."""
    purposes = {"payload": of_payload(type_name), "options": of_options(type_name)}
    texts = zip(part.columns.items(), row[len(part.keys) :], strict=True)
    return {
        column: _anew(contents, text, purposes.get(said) or of_job(said, job_id))
        for (column, said), text in texts
        if text is not None
    }


def _write(
    connection: Connection, part: Part, row: Sequence[Any], closed: Mapping[str, str], job_id: int
) -> None:
    values = {f"new_{column}": text for column, text in closed.items()}
    keys = dict(zip(part.keys, row, strict=False))
    conditions = [f"{part.job} = %(id)s", *(f"{name} = %({name})s" for name in keys)]
    sql = (
        f"UPDATE {part.table} SET {', '.join(map(_assignment, closed))} "
        f"WHERE {' AND '.join(conditions)} RETURNING {part.job}"
    )
    fetch_one(connection, sql, {"id": job_id, **keys, **values})


def _assignment(column: str) -> str:
    value = f"%(new_{column})s"
    if column == "options":
        # The other member is the trace that the job belongs to.
        return f"options = (options::jsonb || jsonb_build_object('{ENCRYPTED_OPTIONS}', {value}::text))::json"
    return f"{column} = {value}{'::json' if column in _JSON else ''}"


def _anew(contents: JobContents, text: str, purpose: str) -> str:
    return contents.closed(contents.opened(text, purpose), purpose)


def _begin_of_first(contents: JobContents) -> str:
    return f'{ENCRYPTED}{_keys_of(contents).encrypting_id}"'


def _keys_of(contents: JobContents) -> PayloadKeys:
    if contents.keys is None:
        raise UndecryptableError("GOQUEUE_PAYLOAD_KEYS is not set in this process")
    return contents.keys
