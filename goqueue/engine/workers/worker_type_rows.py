"""Rows of what each worker can run: its types, labels and threads, by the signature of all of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence

from sqlalchemy import Connection

from goqueue.db.statements import fetch_all
from goqueue.engine.options.known_types import KnownTypes
from goqueue.engine.workers.worker_rows import SERVING, known_parameters

__all__ = ["known_types", "signatures_by_queue", "tell"]


def tell(
    connection: Connection,
    worker_id: int,
    known: KnownTypes,
    *,
    queues: Sequence[str] | None = None,
    queue_slots: Sequence[int] | None = None,
) -> None:
    """Note what a worker knows and serves (None: as before) by now: more was declared since it registered."""
    connection.exec_driver_sql(
        "UPDATE workers SET signature = %(signature)s, types = %(types)s, schemas = %(schemas)s, "
        "async_types = %(async_types)s, async_slots = %(async_slots)s, queue_slots = %(queue_slots)s, "
        "queues = coalesce(%(queues)s::text[], queues) "
        "WHERE id = %(id)s AND stopped_at IS NULL",
        {
            "id": worker_id,
            "queues": None if queues is None else list(queues),
            "queue_slots": None if queue_slots is None else list(queue_slots),
            **known_parameters(known),
        },
    )


def signatures_by_queue(connection: Connection, *, lease_seconds: float) -> dict[str, set[str | None]]:
    """Read the signatures of live workers that take jobs of each queue; None: one that did not tell it."""
    rows = fetch_all(
        connection,
        f"SELECT DISTINCT queues, signature FROM workers WHERE {SERVING}",
        {"lease_seconds": lease_seconds},
    )
    found = defaultdict[str, set[str | None]](set)
    for queues, signature in rows:
        for queue in queues:
            found[queue].add(signature)
    return dict(found)


def known_types(connection: Connection, signatures: Collection[str]) -> dict[str, KnownTypes]:
    """Read what each of these signatures stands for; one that no worker has any more is left out."""
    rows = fetch_all(
        connection,
        # A release that knows of no labels takes nothing that requires any, or more than one slot.
        "SELECT DISTINCT ON (signature) signature, types, schemas, coalesce(labels, ARRAY[]::text[]), "
        "CASE WHEN labels IS NULL THEN 1 ELSE threads END, coalesce(async_types, ARRAY[]::text[]), "
        "async_slots FROM workers WHERE signature = ANY (%(signatures)s) ORDER BY signature, id DESC",
        {"signatures": list(signatures)},
    )
    return {
        signature: KnownTypes(
            dict(zip(types, schemas, strict=True)),
            labels=labels,
            slots=slots,
            async_types=async_types,
            async_slots=async_slots,
        )
        for signature, types, schemas, labels, slots, async_types, async_slots in rows
    }
