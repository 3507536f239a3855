"""The switch by which plain tables become the first partition of partitioned ones; no row is copied.

A constraint that says where the first partition ends is added and checked while everybody works. Then, in one
transaction that holds the tables for a moment, each is renamed, a partitioned one of its name is made, and
the old one becomes its first partition. Sessions that have prepared statements plan them anew, for the new
table.
"""

from __future__ import annotations

import time

from sqlalchemy import Connection

from goqueue.db.statements import fetch_all, fetch_one
from goqueue.engine.partitions.belongings_rows import belongings_of, give, put_aside
from goqueue.engine.partitions.layout_rows import TABLES, last_id
from goqueue.engine.partitions.table_rows import attach, lock_tables, make

__all__ = [
    "FIRST",
    "WORKERS_CHECK",
    "add_bound",
    "check_bound",
    "drop_bound",
    "has_bound",
    "hold_switch",
    "is_switching",
    "obstacles",
    "release_switch",
    "switch",
]

#: The suffix of the first partition.
FIRST = "from_0"

#: Whoever switches the tables of a schema holds this advisory lock for its session: a bound without anyone
#: who does is a left-over.
_SWITCH_KEY = "hashtextextended(current_schema(), 7310003)"

_BOUND = "partition_bound"

#: Workers of a release that changes rows by their places would change those of other partitions.
WORKERS_CHECK = "workers_locks_by_id_check"

_OLD_WORKERS = """
    SELECT count(*) FROM workers WHERE stopped_at IS NULL AND NOT locks_by_id
"""

# What follows a table by its number, and not by its name, would go on with the first partition alone.
_DEPENDENT = """
    SELECT DISTINCT 'the view ' || pg_rewrite.ev_class::regclass || ' reads ' || refobjid::regclass
    FROM pg_depend JOIN pg_rewrite ON pg_rewrite.oid = pg_depend.objid
    WHERE refobjid = ANY (%(tables)s::text[]::regclass[]) AND classid = 'pg_rewrite'::regclass
    UNION ALL
    SELECT 'the foreign key ' || conname || ' of ' || conrelid::regclass || ' refers to '
           || confrelid::regclass
    FROM pg_constraint WHERE contype = 'f' AND confrelid = ANY (%(tables)s::text[]::regclass[])
    UNION ALL
    SELECT 'the publication ' || pubname || ' has ' || prrelid::regclass
    FROM pg_publication_rel JOIN pg_publication ON pg_publication.oid = prpubid
    WHERE prrelid = ANY (%(tables)s::text[]::regclass[])
    UNION ALL
    SELECT 'the index ' || indexrelid::regclass || ' of ' || indrelid::regclass || ' is not valid (yet)'
    FROM pg_index WHERE indrelid = ANY (%(tables)s::text[]::regclass[]) AND NOT indisvalid
    ORDER BY 1
"""


def hold_switch(connection: Connection) -> bool:
    """Be the one who switches, for as long as the session lasts; False: somebody else is."""
    row = fetch_one(connection, f"SELECT pg_try_advisory_lock({_SWITCH_KEY})", {})
    return bool(row and row[0])


def release_switch(connection: Connection) -> None:
    """Let others switch partitions on."""
    connection.exec_driver_sql(f"SELECT pg_advisory_unlock({_SWITCH_KEY})")


def is_switching(connection: Connection) -> bool:
    """Say whether somebody switches now; in a transaction, nobody begins to before its end."""
    row = fetch_one(connection, f"SELECT NOT pg_try_advisory_xact_lock({_SWITCH_KEY})", {})
    return bool(row and row[0])


def obstacles(connection: Connection) -> list[str]:
    """Say what keeps the tables from being partitioned now; nothing: they can be."""
    found = [row[0] for row in fetch_all(connection, _DEPENDENT, {"tables": list(TABLES)})]
    row = fetch_one(connection, _OLD_WORKERS, {})
    if row and row[0]:
        found.append(f"{row[0]} workers are of a release that cannot work on partitions")
    return found


def add_bound(connection: Connection, upper: int) -> None:
    """Let no row come that does not belong below an id; who is there is not asked yet."""
    lock_tables(connection)
    for table, key in TABLES.items():
        connection.exec_driver_sql(
            f"ALTER TABLE {table} ADD CONSTRAINT {table}_{_BOUND} CHECK ({key} < {upper}) NOT VALID"
        )


def check_bound(connection: Connection, table: str) -> None:
    """Look at all rows of a table, beside whoever writes."""
    connection.exec_driver_sql(f"ALTER TABLE {table} VALIDATE CONSTRAINT {table}_{_BOUND}")


def has_bound(connection: Connection) -> bool:
    """Say whether one of the tables has a bound."""
    row = fetch_one(
        connection,
        "SELECT EXISTS (SELECT FROM pg_constraint WHERE conname = ANY (%(names)s) "
        "AND conrelid = ANY (%(tables)s::text[]::regclass[]))",
        {"names": [f"{table}_{_BOUND}" for table in TABLES], "tables": list(TABLES)},
    )
    return bool(row and row[0])


def drop_bound(connection: Connection) -> None:
    """Take the bound of each table back."""
    lock_tables(connection)
    for table in TABLES:
        connection.exec_driver_sql(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {table}_{_BOUND}")


def switch(connection: Connection, *, upper: int, size: int) -> float:
    """Make the tables the first partition, up to an id, and two more; new jobs begin at that id.

    Returns the seconds for which the tables have been held.

    Args:
        connection: in a transaction.
        upper: as in `add_bound`, and checked.
        size: of the second partition.
    """
    ahead = ((f"from_{upper}", upper, upper + size), (f"from_{upper + size}", upper + size, None))
    for suffix, _, _ in ahead:
        make(connection, suffix)
        for table in TABLES:
            connection.exec_driver_sql(
                f"ALTER TABLE {table}_{suffix} DROP CONSTRAINT IF EXISTS {table}_{_BOUND}"
            )
    lock_tables(connection, "workers")
    held_at = time.monotonic()
    assert last_id(connection) < upper
    for table, key in TABLES.items():
        _replace(connection, table, key, like=f"{table}_{ahead[0][0]}")
    connection.exec_driver_sql(
        "ALTER TABLE jobs ALTER id ADD GENERATED BY DEFAULT AS IDENTITY "
        f"(SEQUENCE NAME jobs_id_seq START WITH {upper})"
    )
    for suffix, lower, end in ((FIRST, None, upper), *ahead):
        attach(connection, suffix, lower, end)
    for table in TABLES:
        connection.exec_driver_sql(f"ALTER TABLE {table}_{FIRST} DROP CONSTRAINT {table}_{_BOUND}")
    # Whoever registers later is asked by this; one that is gone may say so.
    connection.exec_driver_sql(
        f"ALTER TABLE workers ADD CONSTRAINT {WORKERS_CHECK} CHECK (locks_by_id OR stopped_at IS NOT NULL)"
    )
    return time.monotonic() - held_at


def _replace(connection: Connection, table: str, key: str, *, like: str) -> None:
    """Put a partitioned table with all that the plain one has in its place; that one is renamed."""
    belongings = belongings_of(connection, table)
    if table == "jobs":
        connection.exec_driver_sql("ALTER TABLE jobs ALTER id DROP IDENTITY")
    put_aside(connection, table, belongings, FIRST)
    connection.exec_driver_sql(
        f"CREATE TABLE {table} (LIKE {like} INCLUDING ALL EXCLUDING INDEXES) PARTITION BY RANGE ({key})"
    )
    give(connection, table, belongings)
