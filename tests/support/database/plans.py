"""Query plans: what tests ask PostgreSQL of how a statement is answered."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from goqueue.db.database import Connection, Database

__all__ = ["nodes", "pages_read", "rows_read", "run_script", "scans_along_indexes"]


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """Every node of a plan."""
    return [plan, *(node for child in plan.get("Plans", ()) for node in nodes(child))]


def scans_along_indexes(
    connection: Connection, sql: str, parameters: dict[str, Any], tables: Collection[str]
) -> tuple[int, int]:
    """Count the rows of these tables that a statement reads, and its scans: each has to be by an index."""
    explained = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", parameters).scalar_one()
    scans = [node for node in nodes(explained[0]["Plan"]) if node.get("Relation Name") in tables]
    assert scans
    assert {node["Node Type"] for node in scans} <= {"Index Scan", "Index Only Scan"}
    read = sum(
        (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"] for node in scans
    )
    return read, len(scans)


def rows_read(connection: Connection, table: str) -> int:
    """Count the rows of a table that the open transaction has read so far, by whatever way."""
    return int(
        connection.exec_driver_sql(
            "SELECT coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_user_tables "
            "WHERE relname = %(table)s",
            {"table": table},
        ).scalar_one()
    )


def pages_read(connection: Connection, *tables: str) -> int:
    """Count the pages of these tables and their indexes that the open transaction has looked at so far.

    A page counts as often as it was looked at, also where nothing on it was to be seen any more.
    """
    return int(
        connection.exec_driver_sql(
            "SELECT coalesce(sum(pg_stat_get_xact_blocks_fetched(part)), 0) FROM ("
            "SELECT unnest(%(tables)s::regclass[]) AS part UNION ALL "
            "SELECT indexrelid FROM pg_index WHERE indrelid = ANY (%(tables)s::regclass[])) AS parts",
            {"tables": list(tables)},
        ).scalar_one()
    )


def run_script(database: Database, script: str) -> None:
    """Run statements that `;` parts, one by one."""
    with database.autocommit() as connection:
        for statement in script.strip().removesuffix(";").split(";"):
            connection.exec_driver_sql(statement)
