"""The jobs of each queue that its live workers run at once, on threads and on event loops."""

from __future__ import annotations

from sqlalchemy import Connection

from goqueue.db.statements import fetch_all
from goqueue.engine.workers.worker_rows import SERVING

__all__ = ["EACH_QUEUE", "QUEUE_SLOTS", "slots_by_queue"]

#: The queues of a row of `workers`, to be joined, with the jobs of each that it runs at once. One that does
#: not tell has its threads.
EACH_QUEUE = "unnest(queues, queue_slots) AS listens (queue, slots)"
QUEUE_SLOTS = "coalesce(listens.slots, threads)"


def slots_by_queue(connection: Connection, *, lease_seconds: float) -> dict[str, int]:
    """Tell how many jobs of each queue its live workers run at once: on threads, or on event loops."""
    rows = fetch_all(
        connection,
        f"SELECT queue, sum({QUEUE_SLOTS}) FROM workers CROSS JOIN {EACH_QUEUE} "
        f"WHERE {SERVING} GROUP BY queue",
        {"lease_seconds": lease_seconds},
    )
    return {row[0]: int(row[1]) for row in rows}
