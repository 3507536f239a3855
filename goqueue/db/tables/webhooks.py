"""Webhooks: who is told of events over HTTP, and what was delivered to whom."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    SmallInteger,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSON

from goqueue.db.tables.base import Timestamp, flag, identity, metadata, now

# One row a subscription. Its secret has to sign, so it is kept as it is: whoever reads this table can sign.
webhook_subscriptions = Table(
    "webhook_subscriptions",
    metadata,
    identity(),
    Column("name", Text, nullable=False),
    # Random: ids of its deliveries begin with it, so that no two services send a receiver the same ones.
    Column("token", Text, nullable=False),
    Column("url", Text, nullable=False),
    # Only events of these. NULL: of all.
    Column("events", ARRAY(Text)),
    Column("queues", ARRAY(Text)),
    Column("types", ARRAY(Text)),
    Column("tags", ARRAY(Text)),
    # Whether bodies have what jobs hold: payload, result, error.
    flag("with_contents"),
    flag("ordered"),
    # Name → value, secret ones among them.
    Column("headers", JSON, nullable=False, server_default=text("'{}'")),
    Column("secret", Text, nullable=False),
    # The secret before the last rotation, and until when it signs beside the new one.
    Column("previous_secret", Text),
    Column("previous_until", Timestamp),
    Column("state", Text, nullable=False, server_default="active"),
    now("state_since"),
    Column("disabled_reason", Text),
    # Up to where the events are deliveries already (`goqueue/events/cursor.py`), and up to when that is.
    Column("cursor", Text, nullable=False),
    now("cursor_at"),
    # Since when every attempt has failed. NULL: the last one did not.
    Column("failing_since", Timestamp),
    # The last time whose events it was not told of.
    Column("gap_since", Timestamp),
    Column("gap_until", Timestamp),
    Column("created_by", Text, nullable=False),
    now("created_at"),
    now("updated_at"),
    # Its deliveries go first; its name is free.
    Column("deleted_at", Timestamp),
    CheckConstraint("state IN ('active', 'disabled')", name="state"),
    CheckConstraint("(previous_secret IS NULL) = (previous_until IS NULL)", name="previous"),
    CheckConstraint("(gap_since IS NULL) = (gap_until IS NULL)", name="gap"),
    Index("webhook_subscriptions_name_idx", "name", unique=True, postgresql_where=text("deleted_at IS NULL")),
)

# One row an event that a subscription is told of. `waiting` has no job yet; `pending` has one.
webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    identity(),
    Column("subscription_id", BigInteger, nullable=False),
    # The number of the event. NULL: a ping, or what tells of a gap.
    Column("event_id", BigInteger),
    Column("kind", Text, nullable=False),
    # The job that the event is about.
    Column("about_job_id", BigInteger),
    # As it is sent, byte by byte: it is signed.
    Column("body", Text, nullable=False),
    Column("state", Text, nullable=False, server_default="waiting"),
    # The job that delivers it.
    Column("job_id", BigInteger),
    now("created_at"),
    Column("finished_at", Timestamp),
    # The cleaner goes along it.
    Index("webhook_deliveries_created_at_idx", "created_at"),
    Index("webhook_deliveries_list_idx", "subscription_id", "id"),
    Index("webhook_deliveries_state_idx", "subscription_id", "state", "id"),
    # An event is delivered to a subscription once, whatever two schedulers do.
    Index(
        "webhook_deliveries_event_idx",
        "subscription_id",
        "event_id",
        unique=True,
        postgresql_where=text("event_id IS NOT NULL"),
    ),
    CheckConstraint("state IN ('waiting', 'pending', 'delivered', 'failed')", name="state"),
    CheckConstraint("(state = 'pending') <= (job_id IS NOT NULL)", name="job"),
    CheckConstraint("(state IN ('delivered', 'failed')) = (finished_at IS NOT NULL)", name="finished"),
)

# One row a call.
webhook_attempts = Table(
    "webhook_attempts",
    metadata,
    identity(),
    Column(
        "delivery_id",
        BigInteger,
        ForeignKey("webhook_deliveries.id", ondelete="CASCADE", name="webhook_attempts_delivery_id_fkey"),
        nullable=False,
    ),
    Column("job_id", BigInteger, nullable=False),
    Column("at", Timestamp, nullable=False),
    Column("seconds", Float, nullable=False),
    # Of the answer: its status and its first KiB. NULL: none came.
    Column("status", SmallInteger),
    Column("answer", Text),
    # Why it counts as failed.
    Column("error", Text),
    Index("webhook_attempts_delivery_idx", "delivery_id", "id"),
)
