"""Rows of subscriptions as their feeder sees them: which are told of events, and up to where that is done."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields
from datetime import datetime

from sqlalchemy import Connection

from goqueue.db.statements import array, fetch_all
from goqueue.webhooks.subscription_rows import COLUMNS, Webhook, webhook_of

__all__ = ["ActiveWebhook", "active", "lock", "move", "move_over_gap"]

# Where a receiver takes so little that its deliveries pile up, its further events stay where they are. The
# walk along webhook_deliveries_state_idx ends at the first one too many.
_ACTIVE = f"""
    SELECT {COLUMNS},
           s.id <> ALL (%(without)s::bigint[])
               AND EXISTS (SELECT FROM webhook_deliveries WHERE subscription_id = s.id AND state = 'waiting'),
           s.id <> ALL (%(without)s::bigint[])
               AND EXISTS (SELECT FROM webhook_deliveries WHERE subscription_id = s.id AND state = 'waiting'
                           ORDER BY id OFFSET %(backlog)s LIMIT 1),
           cursor_at < now() - make_interval(secs => %(idle)s)
    FROM webhook_subscriptions AS s WHERE state = 'active' AND deleted_at IS NULL ORDER BY id
"""

# Who comes second finds another cursor: nothing is delivered twice, whoever else reads the same events.
_MOVE = """
    UPDATE webhook_subscriptions
    SET cursor = %(after)s, cursor_at = coalesce(%(at)s::timestamptz, now())
    WHERE id = ANY (%(ids)s::bigint[]) AND cursor = %(before)s AND state = 'active' AND deleted_at IS NULL
    RETURNING id
"""

_MOVE_OVER_GAP = """
    UPDATE webhook_subscriptions AS s
    SET cursor = %(after)s, cursor_at = now(), gap_since = s.cursor_at, gap_until = now()
    WHERE id = ANY (%(ids)s::bigint[]) AND cursor = %(before)s AND state = 'active' AND deleted_at IS NULL
    RETURNING id, gap_since, gap_until
"""

_LOCK = """
    SELECT id FROM webhook_subscriptions
    WHERE id = ANY (%(ids)s::bigint[]) AND state = 'active' AND deleted_at IS NULL
    ORDER BY id FOR UPDATE
"""


@dataclass(frozen=True, slots=True)
class ActiveWebhook:
    """A subscription that is told of events, as the scheduler sees it.

    Attributes:
        waits: deliveries of it have no job yet.
        is_full: so many that no further events are taken.
        is_idle: its cursor has not moved for long.
    """

    webhook: Webhook
    waits: bool
    is_full: bool
    is_idle: bool


_WIDTH = len(fields(Webhook))


def active(
    connection: Connection, *, backlog: int, idle_seconds: float, without: Collection[int]
) -> list[ActiveWebhook]:
    """List the subscriptions that are told of events, and whether deliveries of theirs wait.

    Args:
        connection: outside of a transaction.
        backlog: one is full where more wait.
        idle_seconds: one is idle whose cursor has not moved for so long.
        without: of these it is not looked at what waits.
    """
    parameters = {"backlog": backlog, "idle": idle_seconds, "without": array(without)}
    rows = fetch_all(connection, _ACTIVE, parameters)
    return [ActiveWebhook(webhook_of(row[:_WIDTH]), *row[_WIDTH:]) for row in rows]


def lock(connection: Connection, ids: Collection[int]) -> set[int]:
    """Lock subscriptions until the transaction ends; those of them that are active."""
    return {row[0] for row in fetch_all(connection, _LOCK, {"ids": array(ids)})}


def move(
    connection: Connection, ids: Collection[int], before: str, after: str, *, at: datetime | None
) -> set[int]:
    """Move cursors on, in the transaction that inserts the deliveries; the subscriptions that were moved.

    Args:
        connection: of the transaction.
        ids: of the subscriptions.
        before: the cursor as it was read.
        after: the new one.
        at: when it is; None: now.
    """
    parameters = {"ids": array(ids), "before": before, "after": after, "at": at}
    return {row[0] for row in fetch_all(connection, _MOVE, parameters)}


def move_over_gap(
    connection: Connection, ids: Collection[int], before: str, after: str
) -> list[tuple[int, datetime, datetime]]:
    """Move cursors over events that are gone; each subscription that was moved, since when and until when."""
    parameters = {"ids": array(ids), "before": before, "after": after}
    return [(row[0], row[1], row[2]) for row in fetch_all(connection, _MOVE_OVER_GAP, parameters)]
