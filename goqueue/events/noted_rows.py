"""Events that no trigger writes, because whoever makes the change says so itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from sqlalchemy import Connection

from goqueue.db.statements import fetch_all
from goqueue.events.event import EventKind

__all__ = ["note"]

_NOTE = """
    INSERT INTO events (slot, xid, kind, data)
    SELECT slot, pg_current_xact_id()::text::bigint, %(kind)s, %(data)s::json FROM event_capture
    WHERE goqueue_events_are_on()
    RETURNING id
"""


def note(connection: Connection, kind: EventKind, data: Mapping[str, Any]) -> None:
    """Write an event in the transaction of its change, while somebody listens.

    Args:
        connection: of the transaction.
        kind: of the event.
        data: what it says; never anything that a job holds.
    """
    fetch_all(connection, _NOTE, {"kind": kind.value, "data": orjson.dumps(data).decode()})
