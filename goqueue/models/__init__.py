"""The tables, a module a subject. The migrations build them; a test holds both together."""

from __future__ import annotations

from goqueue.models import (
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
from goqueue.models.base import metadata

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
