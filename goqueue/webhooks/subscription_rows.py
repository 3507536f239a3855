"""Subscriptions as rows: who is told of which events, where, and up to where that is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection

from goqueue.db.statements import Values, fetch_all, fetch_one, text_array
from goqueue.errors import WebhookNotFoundError

__all__ = [
    "COLUMNS",
    "Webhook",
    "change",
    "delete",
    "find",
    "forget",
    "get",
    "insert",
    "list_all",
    "note_failure",
    "note_success",
    "rotate",
    "set_state",
    "webhook_of",
]

#: What is read of a subscription.
COLUMNS = """
    id, name, token, url, events, queues, types, tags, with_contents, ordered, headers, secret,
    CASE WHEN previous_until > now() THEN previous_secret END, previous_until, state, state_since,
    disabled_reason, cursor, cursor_at, failing_since, gap_since, gap_until, created_by, created_at,
    updated_at
"""

_INSERT = f"""
    INSERT INTO webhook_subscriptions (name, token, url, events, queues, types, tags, with_contents, ordered,
                                       headers, secret, cursor, created_by)
    VALUES (%(name)s, %(token)s, %(url)s, %(events)s::text[], %(queues)s::text[], %(types)s::text[],
            %(tags)s::text[], %(with_contents)s, %(ordered)s, %(headers)s::json, %(secret)s, %(cursor)s,
            %(created_by)s)
    ON CONFLICT (name) WHERE deleted_at IS NULL DO NOTHING
    RETURNING {COLUMNS}
"""
_GET = f"SELECT {COLUMNS} FROM webhook_subscriptions WHERE name = %(name)s AND deleted_at IS NULL"
_BY_ID = f"SELECT {COLUMNS} FROM webhook_subscriptions WHERE id = %(id)s AND deleted_at IS NULL"
_LIST = f"""
    SELECT {COLUMNS} FROM webhook_subscriptions WHERE deleted_at IS NULL ORDER BY name LIMIT %(limit)s
"""


_ROTATE = f"""
    UPDATE webhook_subscriptions
    SET previous_secret = CASE WHEN %(overlap)s > 0 THEN secret END,
        previous_until = CASE WHEN %(overlap)s > 0 THEN now() + make_interval(secs => %(overlap)s) END,
        secret = %(secret)s, updated_at = now()
    WHERE name = %(name)s AND deleted_at IS NULL
    RETURNING {COLUMNS}
"""
_SET_STATE = f"""
    UPDATE webhook_subscriptions
    SET state = %(state)s, state_since = now(), disabled_reason = %(reason)s, failing_since = NULL
    WHERE id = %(id)s AND state <> %(state)s AND deleted_at IS NULL
    RETURNING {COLUMNS}
"""
# Most attempts change nothing here: the row is everybody's.
_NOTE_SUCCESS = """
    UPDATE webhook_subscriptions SET failing_since = NULL
    WHERE id = %(id)s AND failing_since IS NOT NULL RETURNING id
"""
_NOTE_FAILURE = """
    UPDATE webhook_subscriptions SET failing_since = now()
    WHERE id = %(id)s AND failing_since IS NULL RETURNING id
"""
_FAILS_FOR = """
    SELECT 1 FROM webhook_subscriptions
    WHERE id = %(id)s AND failing_since < now() - make_interval(secs => %(seconds)s)
"""
_DELETE = """
    UPDATE webhook_subscriptions
    SET deleted_at = now(), secret = '', previous_secret = NULL, previous_until = NULL, headers = '{}'
    WHERE name = %(name)s AND deleted_at IS NULL RETURNING id
"""
_FORGET = """
    DELETE FROM webhook_subscriptions AS s
    WHERE deleted_at IS NOT NULL
      AND NOT EXISTS (SELECT FROM webhook_deliveries WHERE subscription_id = s.id)
    RETURNING id
"""

#: The columns that somebody may change, and how each is written.
_CHANGEABLE = {
    "url": "%(url)s",
    "events": "%(events)s::text[]",
    "queues": "%(queues)s::text[]",
    "types": "%(types)s::text[]",
    "tags": "%(tags)s::text[]",
    "with_contents": "%(with_contents)s",
    "ordered": "%(ordered)s",
    "headers": "%(headers)s::json",
}
_LISTS = frozenset({"events", "queues", "types", "tags"})


@dataclass(frozen=True, slots=True)
class Webhook:
    """A subscription to events.

    Attributes:
        token: what ids of its deliveries begin with.
        events, queues, types, tags: only events of these; None: of all. One of the tags is enough.
        with_contents: its bodies have what jobs hold.
        ordered: a delivery waits for the one before.
        previous_secret: that before the last rotation, while it signs as well.
        cursor: behind which events are not deliveries yet; `cursor_at` is when that was.
        failing_since: since when every attempt has failed.
        gap_since, gap_until: the last time whose events it was not told of.
    """

    id: int
    name: str
    token: str
    url: str
    events: tuple[str, ...] | None
    queues: tuple[str, ...] | None
    types: tuple[str, ...] | None
    tags: tuple[str, ...] | None
    with_contents: bool
    ordered: bool
    headers: Mapping[str, str] = field(repr=False)
    secret: str = field(repr=False)
    previous_secret: str | None = field(repr=False)
    previous_until: datetime | None
    state: str
    state_since: datetime
    disabled_reason: str | None
    cursor: str
    cursor_at: datetime
    failing_since: datetime | None
    gap_since: datetime | None
    gap_until: datetime | None
    created_by: str
    created_at: datetime
    updated_at: datetime

    @property
    def is_active(self) -> bool:
        """Whether it is told of events."""
        return self.state == "active"

    @property
    def secrets(self) -> tuple[str, ...]:
        """The secrets that sign now: two for a while after a rotation."""
        return (self.secret,) if self.previous_secret is None else (self.secret, self.previous_secret)

    def id_of_delivery(self, delivery_id: int) -> str:
        """Return the `webhook-id` of one of its deliveries, by which a receiver knows what comes twice."""
        return f"msg_{self.token}_{delivery_id}"

    @property
    def concurrency_key(self) -> str | None:
        """The key of the jobs that deliver to it, where they go one after the other."""
        return f"webhook {self.token}" if self.ordered else None


def insert(connection: Connection, values: Mapping[str, Any]) -> Webhook | None:
    """Insert a subscription, and return it; None: there is one of that name."""
    row = fetch_one(connection, _INSERT, _parameters(values))
    return None if row is None else webhook_of(row)


def get(connection: Connection, name: str) -> Webhook:
    """Return the subscription of this name.

    Raises:
        WebhookNotFoundError: there is none.
    """
    row = fetch_one(connection, _GET, {"name": name})
    if row is None:
        raise WebhookNotFoundError(name)
    return webhook_of(row)


def find(connection: Connection, subscription_id: int) -> Webhook | None:
    """Return the subscription with this id; None: there is none any more."""
    row = fetch_one(connection, _BY_ID, {"id": subscription_id})
    return None if row is None else webhook_of(row)


def list_all(connection: Connection, *, limit: int) -> list[Webhook]:
    """List subscriptions by their names."""
    return [webhook_of(row) for row in fetch_all(connection, _LIST, {"limit": limit})]


def change(connection: Connection, name: str, values: Mapping[str, Any]) -> Webhook:
    """Change what is given of a subscription, and return it.

    Raises:
        WebhookNotFoundError: there is none of this name.
    """
    setting = "".join(f"{column} = {_CHANGEABLE[column]}, " for column in values)
    sql = f"""
        UPDATE webhook_subscriptions SET {setting} updated_at = now()
        WHERE name = %(name)s AND deleted_at IS NULL RETURNING {COLUMNS}
    """
    row = fetch_one(connection, sql, _parameters(values) | {"name": name})
    if row is None:
        raise WebhookNotFoundError(name)
    return webhook_of(row)


def rotate(connection: Connection, name: str, secret: str, *, overlap_seconds: float) -> Webhook:
    """Give a subscription another secret; the one before signs beside it for so long.

    Raises:
        WebhookNotFoundError: there is none of this name.
    """
    row = fetch_one(connection, _ROTATE, {"name": name, "secret": secret, "overlap": overlap_seconds})
    if row is None:
        raise WebhookNotFoundError(name)
    return webhook_of(row)


def set_state(
    connection: Connection, subscription_id: int, state: str, *, reason: str | None = None
) -> Webhook | None:
    """Enable or disable a subscription; None: it is so already, or gone."""
    row = fetch_one(connection, _SET_STATE, {"id": subscription_id, "state": state, "reason": reason})
    return None if row is None else webhook_of(row)


def note_success(connection: Connection, subscription_id: int) -> None:
    """Note that a receiver took something."""
    fetch_all(connection, _NOTE_SUCCESS, {"id": subscription_id})


def note_failure(connection: Connection, subscription_id: int, *, bearable_seconds: float) -> bool:
    """Note that an attempt failed; whether all have, for longer than that."""
    fetch_all(connection, _NOTE_FAILURE, {"id": subscription_id})
    parameters = {"id": subscription_id, "seconds": bearable_seconds}
    return fetch_one(connection, _FAILS_FOR, parameters) is not None


def delete(connection: Connection, name: str) -> int:
    """Delete a subscription with its secrets; the cleaner deletes its deliveries. Its id.

    Raises:
        WebhookNotFoundError: there is none of this name.
    """
    row = fetch_one(connection, _DELETE, {"name": name})
    if row is None:
        raise WebhookNotFoundError(name)
    return int(row[0])


def forget(connection: Connection) -> int:
    """Delete the rows of deleted subscriptions that have no deliveries any more; how many."""
    return len(fetch_all(connection, _FORGET, {}))


def _parameters(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as the statements take them."""
    return {name: _parameter(name, value) for name, value in values.items()}


def _parameter(name: str, value: Any) -> Any:
    if name in _LISTS:
        lists: Sequence[str] | None = value
        return None if lists is None else text_array(tuple(lists))
    return orjson.dumps(value).decode() if name == "headers" else value


def webhook_of(row: Values) -> Webhook:
    """Return the subscription of a row of `COLUMNS`."""
    values = list(row)
    values[4:8] = (None if names is None else tuple(names) for names in row[4:8])
    return Webhook(*values)
