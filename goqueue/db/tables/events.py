"""Events, and who listens to them. Migration 0022 has the triggers that write them, and when these exist."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Index,
    Integer,
    Sequence,
    SmallInteger,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSON

from goqueue.db.tables.base import count, metadata, now

#: The partitions of `events`.
SLOTS = 6

_ids = Sequence("events_id_seq", metadata=metadata)


def _events(name: str, partition_by: str | None = None) -> Table[Any]:
    """One row a change, written in its transaction while somebody has subscribed; never updated."""
    return Table(
        name,
        metadata,
        # Which partition: they are written to one after the other, in a ring.
        Column("slot", SmallInteger, nullable=False),
        # The transaction. What a reader has not seen yet is told by it: see `goqueue/events/cursor.py`.
        Column("xid", BigInteger, nullable=False),
        # Changes of one job are serialized by the lock of its row, so their ids ascend.
        Column("id", BigInteger, server_default=_ids.next_value(), nullable=False),
        Column("at", DateTime(timezone=True), server_default=text("clock_timestamp()"), nullable=False),
        # `job.completed`: see `goqueue/events/event.py`.
        Column("kind", Text, nullable=False),
        Column("job_id", BigInteger),
        Column("queue", Text),
        Column("type", Text),
        # Of a job. Never anything that it holds: no payload, no result, no text of an error.
        Column("status", Text),
        Column("attempt", SmallInteger),
        Column("fence", Integer),
        Column("worker_id", BigInteger),
        Column("reason", Text),
        Column("available_at", DateTime(timezone=True)),
        # What there is to say of anything else.
        Column("data", JSON),
        Index(f"{name}_xid_id_idx", "xid", "id"),
        # Readers that have far to go page by it.
        Index(f"{name}_id_idx", "id"),
        postgresql_partition_by=partition_by,
    )


events = _events("events", partition_by="LIST (slot)")
event_slots = tuple(_events(f"events_{slot}") for slot in range(SLOTS))

# One row: where events are written to, and from which point on a reader may go on.
event_capture = Table(
    "event_capture",
    metadata,
    Column("id", SmallInteger, primary_key=True, server_default="1"),
    count("slot", SmallInteger),
    now("slot_since"),
    # The transaction that made the triggers: what was changed before it was not written down.
    count("captured_since", BigInteger),
    # The last transaction of which events are gone, and the snapshot in which the last ones went.
    count("forgotten_xid", BigInteger),
    Column("forgotten_in", Text, nullable=False, server_default="1:1:"),
    CheckConstraint("id = 1", name="one_row"),
)

# Who listens: API processes for their streams, and whatever else reads the feed.
event_subscriptions = Table(
    "event_subscriptions",
    metadata,
    Column("name", Text, primary_key=True),
    # For people: stream, terminal, webhooks.
    Column("what", Text, nullable=False),
    Column("lease_until", DateTime(timezone=True), nullable=False),
)
