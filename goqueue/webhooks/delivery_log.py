"""The log of deliveries: what a webhook was told, and how it is told again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from goqueue.audit import audit_rows as audit
from goqueue.db.database import Database
from goqueue.db.statements import current_time
from goqueue.engine import create as creation
from goqueue.engine.options.request_models import validate
from goqueue.errors import InvalidJobError, WebhookConflictError
from goqueue.webhooks import delivery_log_rows as log_rows
from goqueue.webhooks import delivery_rows as deliveries
from goqueue.webhooks import subscription_rows as subscriptions
from goqueue.webhooks.bodies import PING, body_of_ping
from goqueue.webhooks.delivery_log_rows import Call, DeliveryFilter
from goqueue.webhooks.delivery_rows import Delivery, DeliveryState, NewDelivery, Waiting
from goqueue.webhooks.disabling import target_of
from goqueue.webhooks.requests import RedeliverRange
from goqueue.webhooks.starting import start
from goqueue.webhooks.subscription_rows import Webhook

__all__ = ["COUNTED_MAX", "DeliveryDetails", "DeliveryLog"]

#: Deliveries of a state are counted no further.
COUNTED_MAX = 10_000

#: Deliveries that one transaction lets be delivered again.
BATCH = 1_000


class DeliveryDetails(NamedTuple):
    """A delivery with its body, and the calls that it took."""

    delivery: Delivery
    calls: list[Call]


class DeliveryLog:
    """The deliveries of an installation's webhooks.

    Args:
        database: where they are kept.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def counts(self, webhooks: Sequence[Webhook]) -> dict[int, dict[str, int]]:
        """Count the deliveries of webhooks by their states, each no further than `COUNTED_MAX`."""
        with self._database.autocommit() as connection:
            return log_rows.counts(connection, [one.id for one in webhooks], most=COUNTED_MAX)

    def ping(self, name: str) -> Delivery:
        """Deliver a `webhook.ping`, also to a webhook that is disabled: once, and ahead of what waits.

        Raises:
            WebhookNotFoundError: there is none of this name.
        """
        with self._database.transaction() as connection:
            webhook = subscriptions.get(connection, name)
            body = body_of_ping(name, current_time(connection))
            (delivery_id,) = deliveries.insert(connection, [NewDelivery(webhook.id, None, PING, None, body)])
            creates = start(connection, [Waiting(delivery_id, webhook.id, PING)], {webhook.id: webhook})
            audit.record(connection, "webhook.ping", target_of(name))
            delivery = log_rows.get(connection, name, webhook.id, delivery_id)
        creation.count(creates)
        return delivery

    def deliveries(
        self, name: str, wanted: DeliveryFilter, *, limit: int = 100, before_id: int | None = None
    ) -> list[Delivery]:
        """List deliveries of a webhook without their bodies, the newest first.

        Raises:
            WebhookNotFoundError: there is none of this name.
        """
        with self._database.autocommit() as connection:
            webhook = subscriptions.get(connection, name)
            return log_rows.page(connection, webhook.id, wanted, limit=limit, before_id=before_id)

    def delivery(self, name: str, delivery_id: int) -> DeliveryDetails:
        """Return a delivery with its body and its calls.

        Raises:
            WebhookNotFoundError: there is no webhook of this name.
            WebhookDeliveryNotFoundError: it has no such delivery.
        """
        with self._database.autocommit() as connection:
            webhook = subscriptions.get(connection, name)
            delivery = log_rows.get(connection, name, webhook.id, delivery_id)
            return DeliveryDetails(delivery, log_rows.attempts(connection, delivery_id))

    def redeliver(self, name: str, delivery_id: int) -> Delivery:
        """Deliver again what has been delivered or has failed, with the same `webhook-id` and body.

        Raises:
            WebhookNotFoundError: there is no webhook of this name.
            WebhookDeliveryNotFoundError: it has no such delivery.
            WebhookConflictError: it is under way already.
        """
        with self._database.transaction() as connection:
            webhook = subscriptions.get(connection, name)
            before = log_rows.get(connection, name, webhook.id, delivery_id)
            if not log_rows.redeliver(connection, delivery_id):
                raise WebhookConflictError(name, f"the delivery {delivery_id} is {before.state} already")
            audit.record(connection, "webhook.redeliver", target_of(name), after={"delivery": delivery_id})
            return log_rows.get(connection, name, webhook.id, delivery_id)

    def redeliver_range(
        self,
        name: str,
        since: datetime,
        until: datetime | None = None,
        *,
        state: DeliveryState | str = DeliveryState.FAILED,
    ) -> int:
        """Deliver again what failed, or was delivered, of events of a time; how many deliveries that are.

        Raises:
            WebhookNotFoundError: there is no webhook of this name.
            InvalidJobError: the state is not one in which a delivery has ended, or the range is empty.
        """
        said = {"since": since, "until": until, "state": state}
        return self.redeliver_range_of(name, validate(RedeliverRange, said))

    def redeliver_range_of(self, name: str, wanted: RedeliverRange) -> int:
        """Deliver a range again as `redeliver_range` does."""
        if wanted.state not in {DeliveryState.DELIVERED, DeliveryState.FAILED}:
            raise InvalidJobError({"state": "expected failed or delivered"})
        if wanted.until is not None and wanted.until <= wanted.since:
            raise InvalidJobError({"until": "expected a moment after since"})
        webhook = self._get(name)
        total, after_id = 0, 0
        while True:
            with self._database.transaction() as connection:
                ids = log_rows.redeliver_range(
                    connection,
                    webhook.id,
                    since=wanted.since,
                    until=wanted.until,
                    states=[wanted.state],
                    after_id=after_id,
                    limit=BATCH,
                )
                if ids:
                    audit.record(connection, "webhook.redeliver", target_of(name), after=_range(wanted, ids))
            total += len(ids)
            if len(ids) < BATCH:
                return total
            after_id = ids[-1]

    def _get(self, name: str) -> Webhook:
        with self._database.autocommit() as connection:
            return subscriptions.get(connection, name)


def _range(wanted: RedeliverRange, ids: Sequence[int]) -> dict[str, Any]:
    return {
        "since": wanted.since,
        "until": wanted.until,
        "state": wanted.state.value,
        "deliveries": len(ids),
        "first": ids[0],
        "last": ids[-1],
    }
