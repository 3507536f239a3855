"""Indexes, triggers and grants of a table, and how another table gets them that takes over its name."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from goqueue.db.concurrent_indexes import name_of_part
from goqueue.db.statements import fetch_all

__all__ = ["Belongings", "belongings_of", "give", "put_aside"]

_INDEXES = """
    SELECT index_class.relname::text, replace(pg_get_indexdef(indexrelid), ' ON ONLY ', ' ON '), indisprimary
    FROM pg_index JOIN pg_class AS index_class ON index_class.oid = indexrelid
    WHERE indrelid = %(table)s::regclass AND indisvalid ORDER BY indisprimary DESC, 1
"""

# An attached table must not have a trigger of the name of one of the partitioned table's.
_TRIGGERS = """
    SELECT tgname::text, pg_get_triggerdef(oid) FROM pg_trigger
    WHERE tgrelid = %(table)s::regclass AND NOT tgisinternal ORDER BY tgname
"""

_GRANTS = """
    SELECT format('GRANT %%s ON %%s TO %%s%%s', privilege_type, %(table)s::text,
                  CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END,
                  CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
    FROM pg_class CROSS JOIN LATERAL aclexplode(relacl)
    WHERE oid = %(table)s::regclass AND grantee <> relowner
"""


@dataclass(frozen=True, slots=True)
class Belongings:
    """The indexes, triggers and grants of a table.

    Attributes:
        indexes: the name of each, what makes it, and whether it is that of the primary key.
        triggers: the name of each, and what makes it.
        grants: statements.
    """

    indexes: list[tuple[str, str, bool]]
    triggers: list[tuple[str, str]]
    grants: list[str]


def belongings_of(connection: Connection, table: str) -> Belongings:
    """Read what a table has; an index that is not valid is left out."""
    asked = {"table": table}
    return Belongings(
        [(row[0], row[1], row[2]) for row in fetch_all(connection, _INDEXES, asked)],
        [(row[0], row[1]) for row in fetch_all(connection, _TRIGGERS, asked)],
        [row[0] for row in fetch_all(connection, _GRANTS, asked)],
    )


def put_aside(connection: Connection, table: str, belongings: Belongings, suffix: str) -> None:
    """Rename a table and its indexes, and drop its triggers, so that their names are free."""
    for name, _ in belongings.triggers:
        connection.exec_driver_sql(f'DROP TRIGGER "{name}" ON {table}')
    for name, _, _ in belongings.indexes:
        connection.exec_driver_sql(f'ALTER INDEX "{name}" RENAME TO "{name_of_part(name, suffix)}"')
    connection.exec_driver_sql(f"ALTER TABLE {table} RENAME TO {table}_{suffix}")


def give(connection: Connection, table: str, belongings: Belongings) -> None:
    """Make indexes, triggers and grants anew for the table that has the name now."""
    for name, definition, is_primary in belongings.indexes:
        columns = definition[definition.index("(") :]
        primary_key = f'ALTER TABLE {table} ADD CONSTRAINT "{name}" PRIMARY KEY {columns}'
        connection.exec_driver_sql((primary_key if is_primary else definition).replace("%", "%%"))
    for _, definition in belongings.triggers:
        connection.exec_driver_sql(definition.replace("%", "%%"))
    for grant in belongings.grants:
        connection.exec_driver_sql(grant)
