"""Indexes on chosen paths of the payloads of a type: which there are, and how they are made and dropped.

An index is partial, of the jobs of one type, and orders them by the value at the path (its first characters,
because an entry of an index has a largest size) and by id. No column of it changes but by an edit of the
payload.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from psycopg import sql
from sqlalchemy import Connection

from goqueue.db import concurrent_indexes
from goqueue.db.statements import fetch_all, fetch_one
from goqueue.engine.listing.range_rows import Range

__all__ = ["PayloadIndex", "all_of", "build", "drop", "due", "finish", "range_by", "set_paths", "wait_again"]

#: So many characters of a value are in the index; what is longer is told apart by looking at the row.
VALUE_CHARACTERS = 200

_COLUMNS = "id, type, path, state, error, updated_at"

_SET = """
    INSERT INTO payload_indexes (type, path) SELECT %(type)s, unnest(%(paths)s::text[])
    ON CONFLICT (type, path) DO UPDATE SET state = 'building', error = NULL, updated_at = now()
    WHERE payload_indexes.state IN ('dropping', 'failed')
"""

_TAKE_BACK = """
    UPDATE payload_indexes SET state = 'dropping', updated_at = now()
    WHERE type = %(type)s AND path <> ALL (%(paths)s::text[]) AND state <> 'dropping'
"""

_ALL = f"""
    SELECT {_COLUMNS} FROM payload_indexes WHERE %(type)s::text IS NULL OR type = %(type)s
    ORDER BY type, path
"""

# One at a time, in the order in which they were asked for.
_DUE = f"""
    SELECT {_COLUMNS} FROM payload_indexes WHERE state IN ('building', 'dropping')
    ORDER BY updated_at, id LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class PayloadIndex:
    """An index on a path of the payloads of a type.

    Attributes:
        path: such as customer_id or address.country.
        state: building, ready, failed or dropping.
        error: of one that failed, why.
    """

    id: int
    type: str
    path: str
    state: str
    error: str | None
    updated_at: datetime

    @property
    def name(self) -> str:
        """The name of the index in PostgreSQL."""
        return f"jobs_payload_{self.id}_idx"


def set_paths(connection: Connection, job_type: str, paths: Iterable[str]) -> None:
    """Ask for indexes on these paths of a type and no others; one that failed is tried again."""
    parameters = {"type": job_type, "paths": sorted(set(paths))}
    connection.exec_driver_sql(_SET, parameters)
    connection.exec_driver_sql(_TAKE_BACK, parameters)


def all_of(connection: Connection, job_type: str | None = None) -> list[PayloadIndex]:
    """Read the indexes of a type, or of all, by type and path."""
    return [PayloadIndex(*row) for row in fetch_all(connection, _ALL, {"type": job_type})]


def due(connection: Connection) -> PayloadIndex | None:
    """Read the next index to make or to drop."""
    row = fetch_one(connection, _DUE, {})
    return None if row is None else PayloadIndex(*row)


def finish(connection: Connection, index: PayloadIndex, *, error: str | None = None) -> None:
    """Note that an index is ready, or why it failed; a dropped one is forgotten.

    Nothing is noted when somebody has asked for something else meanwhile.
    """
    if index.state == "dropping" and error is None:
        statement = "DELETE FROM payload_indexes WHERE id = %(id)s AND state = 'dropping'"
    else:
        statement = (
            "UPDATE payload_indexes SET state = %(state)s, error = %(error)s, updated_at = now() "
            "WHERE id = %(id)s AND state = 'building'"
        )
    state = "ready" if error is None else "failed"
    connection.exec_driver_sql(statement, {"id": index.id, "state": state, "error": error})


def wait_again(connection: Connection, index: PayloadIndex) -> None:
    """Let the others go first: this one could not be made just now."""
    statement = "UPDATE payload_indexes SET updated_at = now() WHERE id = %(id)s AND state = %(state)s"
    connection.exec_driver_sql(statement, {"id": index.id, "state": index.state})


def build(connection: Connection, index: PayloadIndex) -> None:
    """Make an index beside the writers of the table; on an autocommit connection of its own.

    What a build that was cut off has left behind is dropped first. One that is there is left as it is.
    """
    columns = sql.SQL("({}, id) WHERE type = {}").format(sql.SQL(_value(index.path)), sql.Literal(index.type))
    concurrent_indexes.create(connection, index.name, "jobs", columns.as_string(None))


def drop(connection: Connection, index: PayloadIndex) -> None:
    """Drop an index beside the writers of the table; on an autocommit connection of its own."""
    concurrent_indexes.drop(connection, index.name)


def range_by(connection: Connection, job_type: str | None, path: tuple[str, ...], text: str) -> Range | None:
    """Return the range of the jobs of a type with a value at a path, where an index on it is ready.

    The statement takes the value as the parameter `text`. It is of the jobs whose first characters are those
    of the value: the whole of it is to be checked as well.
    """
    # The null of JSON has no text, so no index has it.
    if job_type is None or not path or text == "null":
        return None
    ready = "SELECT FROM payload_indexes WHERE type = %(type)s AND path = %(path)s AND state = 'ready'"
    if fetch_one(connection, ready, {"type": job_type, "path": ".".join(path)}) is None:
        return None
    value, wanted = _value(".".join(path)), f"left(%(text)s::text, {VALUE_CHARACTERS})"
    name = sql.Literal(job_type).as_string(None).replace("%", "%%")
    return Range(
        "jobs",
        f"type = {name} AND ({value}, id) > ({wanted}, %(above)s) AND ({value}, id) < ({wanted}, %(below)s)",
        f"{value} DESC, id DESC",
        f"{value}, id",
        frozenset({"type"}),
    )


def _value(path: str) -> str:
    """The expression of the value at a path, which the index and the statements say alike."""
    steps = ",".join(f'"{step}"' for step in path.split("."))
    return f"left(payload #>> '{{{steps}}}'::text[], {VALUE_CHARACTERS})"
