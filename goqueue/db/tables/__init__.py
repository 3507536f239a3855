"""The tables, a module a subject. The migrations build them; a test holds both together."""

from __future__ import annotations

from goqueue.db.tables import (
    audit,
    bulk,
    events,
    history,
    jobs,
    namespaces,
    processes,
    queues,
    reencryption,
    schedules,
    types,
    webhooks,
)
from goqueue.db.tables.base import metadata

__all__ = [
    "audit",
    "bulk",
    "events",
    "history",
    "jobs",
    "metadata",
    "namespaces",
    "processes",
    "queues",
    "reencryption",
    "schedules",
    "types",
    "webhooks",
]
