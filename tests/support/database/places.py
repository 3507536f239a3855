"""Compares `ready_jobs`, `running_jobs` and the columns for indexes with what the rows of jobs say."""

from __future__ import annotations

from typing import Any

from goqueue.db.database import Connection

__all__ = ["misplaced"]

_STATE = """CASE WHEN status <> 'queued' THEN status WHEN rank IS NULL THEN 'waiting'
                 WHEN quarantined THEN 'suspect' ELSE 'ready' END"""

_LISTED = {
    "ready_jobs": (
        f"""SELECT queue, rank, id, fence, type, requires IS NOT NULL OR unreadable_until IS NOT NULL,
                   CASE WHEN NOT admitted THEN concurrency_key END FROM jobs
            WHERE {_STATE} = 'ready'""",
        "SELECT queue_name, ready_rank, job_id, job_fence, job_type, is_special, open_key FROM ready_jobs",
    ),
    "running_jobs": (
        f"""SELECT coalesce(worker_id, -1), id, cancel_requested_at IS NOT NULL FROM jobs
            WHERE {_STATE} = 'running'""",
        "SELECT holder, job_id, to_stop FROM running_jobs",
    ),
}

_COLUMNS = f"""
    SELECT id, status, place, rare_state, rare_since, unfinished_key, expiring_at FROM jobs
    WHERE place IS DISTINCT FROM nullif({_STATE}, 'completed')
       OR (status <> 'completed' AND rare_state IS DISTINCT FROM
           CASE WHEN {_STATE} NOT IN ('ready', 'running') THEN {_STATE} END)
       OR (status = 'completed' AND rare_state <> 'completed')
       OR (rare_state IS NOT NULL AND rare_since IS DISTINCT FROM finished_at)
       OR unfinished_key IS DISTINCT FROM CASE WHEN finished_at IS NULL THEN concurrency_key END
       OR expiring_at IS DISTINCT FROM
          CASE WHEN status IN ('queued', 'blocked') THEN LEAST(expires_at, deadline_at) END
"""


def misplaced(connection: Connection) -> dict[str, list[tuple[Any, ...]]]:
    """Tell what is missing in the two tables, what is too much, and which rows have wrong columns."""
    found = {"columns": connection.exec_driver_sql(_COLUMNS).fetchall()}
    for table, (wanted, listed) in _LISTED.items():
        found[f"not in {table}"] = connection.exec_driver_sql(f"{wanted} EXCEPT {listed}").fetchall()
        found[f"only in {table}"] = connection.exec_driver_sql(f"{listed} EXCEPT {wanted}").fetchall()
    return {name: [tuple(row) for row in rows] for name, rows in found.items() if rows}
