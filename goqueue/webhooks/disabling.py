"""The end of a webhook's deliveries until somebody enables it: by somebody, or because its receiver fails."""

from __future__ import annotations

import structlog

from goqueue.audit import audit_rows as audit
from goqueue.db.database import Connection
from goqueue.events import noted_rows as events
from goqueue.events.event import EventKind
from goqueue.webhooks import subscription_rows as subscriptions
from goqueue.webhooks.subscription_rows import Webhook

__all__ = ["disable_in", "target_of"]

log = structlog.get_logger(__name__)


def target_of(name: str) -> str:
    """Return what the audit log calls a webhook."""
    return f"webhook {name}"


def disable_in(connection: Connection, subscription_id: int, reason: str) -> Webhook | None:
    """Disable a webhook in a transaction, with all that tells of it; None: it is disabled, or gone."""
    webhook = subscriptions.set_state(connection, subscription_id, "disabled", reason=reason)
    if webhook is None:
        return None
    audit.record(connection, "webhook.disable", target_of(webhook.name), reason=reason)
    events.note(connection, EventKind.WEBHOOK_DISABLED, {"webhook": webhook.name, "reason": reason})
    log.warning("webhook_disabled", webhook=webhook.name, reason=reason)
    return webhook
