"""The tables, a module a subject. The migrations build them; a test holds both together."""

from __future__ import annotations

from goqueue.db.tables import (
    attempts,
    bulk,
    dependencies,
    jobs,
    processes,
    queues,
    rollups,
    schedules,
    sessions,
)
from goqueue.db.tables.base import metadata

__all__ = [
    "attempts",
    "bulk",
    "dependencies",
    "jobs",
    "metadata",
    "processes",
    "queues",
    "rollups",
    "schedules",
    "sessions",
]
