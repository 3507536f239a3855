"""Bodies of deliveries: `type`, `timestamp` and `data`, as Standard Webhooks recommends."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from goqueue.events.event import Event
from goqueue.webhooks.delivery_rows import AboutJob

__all__ = ["GAP", "PING", "body_of_event", "body_of_gap", "body_of_ping"]

#: What is delivered besides events, whatever a subscription chooses.
PING = "webhook.ping"
GAP = "webhook.gap"


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


# Escaped to ASCII: what a job holds may have characters that UTF-8 has no place for.
_write = json.JSONEncoder(separators=(",", ":"), default=_moment).encode


def body_of_event(event: Event, contents: AboutJob | None = None) -> str:
    """Return the body of an event.

    Args:
        event: what happened.
        contents: what its job holds, where the subscription is told that.
    """
    data = {"job_id": event.job_id, "queue": event.queue, "type": event.type, **event.data}
    if contents is not None:
        data |= {"payload": contents.payload, "result": contents.result, "error": contents.error}
    return _body(event.kind, event.at, data)


def body_of_ping(name: str, at: datetime) -> str:
    """Return the body of a delivery that only tries whether the receiver takes some."""
    return _body(PING, at, {"webhook": name})


def body_of_gap(name: str, since: datetime, until: datetime) -> str:
    """Return the body that tells a receiver between which moments it was not told of events."""
    return _body(GAP, until, {"webhook": name, "since": _moment(since), "until": _moment(until)})


def _body(kind: str, at: datetime, data: Mapping[str, Any]) -> str:
    return _write({"type": kind, "timestamp": _moment(at), "data": data})
