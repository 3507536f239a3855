"""Indexes that only the release before revision 0016 asks: dropped when no worker of it is left.

Each names a column that every job changes, and so makes PostgreSQL write into all indexes of `jobs` with
every claim and every record. Without them a worker of that release is slow, and still right.
"""

from __future__ import annotations

from sqlalchemy import Connection

__all__ = ["RETIRED_INDEXES", "make_retired_indexes", "unasked_indexes"]

_READY = "status = 'queued' AND rank IS NOT NULL AND NOT quarantined"
_SUSPECT = "status = 'queued' AND rank IS NOT NULL AND quarantined"
_UNSUCCESSFUL = "WHERE status IN ('failed','cancelled','expired','blocked')"
_FINGERPRINT = "COALESCE(fingerprint, \"left\"(md5((type || ':'::text) || COALESCE(reason, ''::text)), 16))"

RETIRED_INDEXES = {
    "jobs_ready_idx": f"jobs (queue, rank, id) WHERE {_READY}",
    "jobs_quarantined_idx": f"jobs (deaths, rank, id) WHERE {_SUSPECT}",
    "jobs_suspects_idx": f"jobs (queue, rank, id) WHERE {_SUSPECT} AND suspicion < 2",
    "jobs_waiting_idx": "jobs (available_at) WHERE status = 'queued' AND rank IS NULL",
    "jobs_running_idx": "jobs (worker_id) WHERE status = 'running'",
    "jobs_unsuccessful_idx": f"jobs (status, id) {_UNSUCCESSFUL}",
    "jobs_unsuccessful_queue_idx": f"jobs (status, queue, id) {_UNSUCCESSFUL}",
    "jobs_unsuccessful_type_idx": f"jobs (status, type, id) {_UNSUCCESSFUL}",
    "jobs_finished_idx": "jobs (status, finished_at) WHERE finished_at IS NOT NULL",
    "jobs_key_ready_idx": "jobs (queue, concurrency_key, rank, id) "
    f"WHERE {_READY} AND NOT admitted AND concurrency_key IS NOT NULL",
    "jobs_key_unfinished_idx": "jobs (queue, concurrency_key, id) "
    "WHERE finished_at IS NULL AND concurrency_key IS NOT NULL",
    "jobs_expiring_idx": "jobs (LEAST(expires_at, deadline_at)) "
    "WHERE status IN ('queued','blocked') AND LEAST(expires_at, deadline_at) IS NOT NULL",
    "jobs_cancelling_idx": "jobs (worker_id) WHERE status = 'running' AND cancel_requested_at IS NOT NULL",
    "jobs_fingerprint_idx": f"jobs (({_FINGERPRINT}), id) "
    "INCLUDE (fingerprint, type, reason, queue, finished_at) WHERE status = 'failed'",
}

_PRESENT = """
    SELECT relname FROM pg_class WHERE relname = ANY (%(names)s) AND relkind IN ('i', 'I')
      AND relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'jobs'::regclass)
"""

# A worker that has been silent for so long has lost its lease, whatever it was set to.
_IS_ASKED = """
    SELECT EXISTS (SELECT FROM workers WHERE stopped_at IS NULL AND NOT places_jobs
                   AND heartbeat_at > now() - interval '5 minutes')
"""


def unasked_indexes(connection: Connection) -> list[str]:
    """Name those that are left and may be dropped: all of them, or none while a worker asks them."""
    names = connection.exec_driver_sql(_PRESENT, {"names": list(RETIRED_INDEXES)}).scalars().all()
    if not names or connection.exec_driver_sql(_IS_ASKED).scalar_one():
        return []
    return list(names)


def make_retired_indexes(connection: Connection) -> None:
    """Make them again, beside all writers, for the release that asks them.

    The connection is in autocommit mode.
    """
    for name, columns in RETIRED_INDEXES.items():
        connection.exec_driver_sql(f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON {columns}")
