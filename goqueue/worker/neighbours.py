"""The other worker processes of this host, and who serves the quarantine."""

from __future__ import annotations

import os
from pathlib import Path

import structlog

from goqueue.db.database import Connection
from goqueue.engine.workers import lease_rows as lease_store
from goqueue.engine.workers import worker_rows as worker_store
from goqueue.worker.health import is_running

log = structlog.get_logger(__name__)


def end_gone_neighbours(connection: Connection, worker_id: int, own_host_key: str | None) -> None:
    """End the leases of processes of this host that are gone: their jobs need not wait for silence."""
    if own_host_key is None:
        return
    gone = {
        neighbour: pid
        for neighbour, pid in worker_store.living(connection, own_host_key)
        if neighbour != worker_id and (pid == os.getpid() or not is_running(pid))
    }
    for neighbour, pid in gone.items():
        log.warning("worker_gone", worker_id=neighbour, pid=pid)
    if gone:
        # At once: who was lost together is judged together.
        lease_store.end_gone(connection, gone)


def host_key() -> str | None:
    """Tell what two processes share exactly if their process numbers mean the same; None: nothing says it.

    A host name is not enough: containers may be given the same.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = Path("/proc/self/ns/pid").readlink()
    except OSError:
        return None
    return f"{boot} {namespace}"
