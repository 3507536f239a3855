"""The webhooks of an installation: made, changed, tried, rotated, disabled, and their deliveries."""

from __future__ import annotations

import secrets
import string
from collections.abc import Mapping
from typing import Any, NamedTuple

import structlog

from goqueue.access.principal import Principal
from goqueue.access.scopes import Scope
from goqueue.audit import audit_rows as audit
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.engine import queue_rows
from goqueue.engine.options.request_models import validate
from goqueue.errors import ForbiddenError, InvalidJobError, WebhookConflictError
from goqueue.events import noted_rows as events
from goqueue.events.event import EventKind
from goqueue.events.feed import EventFeed
from goqueue.events.subscriptions import Subscriptions
from goqueue.limits.flow_control import FlowControl
from goqueue.limits.flow_settings import QueueSettings
from goqueue.webhooks import subscription_rows as subscriptions
from goqueue.webhooks.addresses import ADDRESS_REFUSED, is_refused
from goqueue.webhooks.delivery_log import DeliveryLog
from goqueue.webhooks.disabling import disable_in, target_of
from goqueue.webhooks.filters import DELIVERY_QUEUE
from goqueue.webhooks.requests import NewWebhook, RotateWebhook, WebhookChanges
from goqueue.webhooks.service import LEASE_NAME
from goqueue.webhooks.signatures import new_secret
from goqueue.webhooks.subscription_rows import Webhook
from goqueue.webhooks.targets import host_of

__all__ = ["KEPT", "WEBHOOKS_MAX", "MadeWebhook", "Webhooks"]

log = structlog.get_logger(__name__)

#: As many are listed, and may be made.
WEBHOOKS_MAX = 1_000

#: As the value of a header it stands for the present one.
KEPT = "***"

_TOKEN_CHARACTERS = string.ascii_lowercase + string.digits
_TOKEN_LENGTH = 12


class MadeWebhook(NamedTuple):
    """A webhook that was made or rotated, and its secret, which is shown only now."""

    webhook: Webhook
    secret: str


class Webhooks(DeliveryLog):
    """The webhooks of an installation.

    Args:
        settings: which receivers are allowed, and how long events are kept.
        database: where they are kept.
        flow: sees to it that deliveries go in order where that is wanted.
    """

    def __init__(self, settings: Settings, database: Database, flow: FlowControl) -> None:
        super().__init__(database)
        self._settings = settings
        self._flow = flow
        self._feed = EventFeed(database)
        self._listening = Subscriptions(database)

    def create(self, name: str, url: str, *, by: str = "system", **options: Any) -> MadeWebhook:
        """Make a webhook that is told of what happens from now on; its secret is shown only now.

        Args:
            name: what it is called: letters, digits, points, dashes.
            url: where events are delivered.
            by: who makes it.
            **options: as of `NewWebhook`: events, queues, types, tags, headers, secret, with_contents,
                ordered.

        Raises:
            InvalidJobError: something about it is wrong, or its address may not be called.
            WebhookConflictError: there is one of this name, or there are too many.
            DatabaseUnavailableError: PostgreSQL does not answer, or a transaction writes for so long that
                events cannot be written yet.
        """
        return self.create_new(validate(NewWebhook, {"name": name, "url": url, **options}), by=by)

    def create_new(self, wanted: NewWebhook, *, by: str, maker: Principal | None = None) -> MadeWebhook:
        """Make a webhook as `create` does. A `maker` gives it no contents that it may not read itself.

        Raises:
            ForbiddenError: the maker has not payloads:read, and bodies shall have contents.
        """
        _expect_reads(maker, with_contents=wanted.with_contents)
        self._expect_allowed(wanted.url)
        _expect_no_kept(wanted.headers, {})
        if wanted.ordered:
            self._keep_order()
        secret = wanted.secret or new_secret()
        # From this cursor on it misses nothing: events are written when that returns.
        self._listen()
        cursor = self._feed.now().text
        values = wanted.model_dump() | {
            "secret": secret,
            "token": "".join(secrets.choice(_TOKEN_CHARACTERS) for _ in range(_TOKEN_LENGTH)),
            "cursor": cursor,
            "created_by": by,
        }
        with self._database.transaction() as connection:
            if len(subscriptions.list_all(connection, limit=WEBHOOKS_MAX)) == WEBHOOKS_MAX:
                raise WebhookConflictError(wanted.name, f"there are {WEBHOOKS_MAX:,} webhooks already")
            webhook = subscriptions.insert(connection, values)
            if webhook is None:
                raise WebhookConflictError(wanted.name, f"there is a webhook {wanted.name!r} already")
            audit.record(connection, "webhook.create", target_of(webhook.name), after=_noted(webhook))
        log.info("webhook_created", webhook=webhook.name, by=by)
        return MadeWebhook(webhook, secret)

    def list(self) -> list[Webhook]:
        """List the webhooks by their names."""
        with self._database.autocommit() as connection:
            return subscriptions.list_all(connection, limit=WEBHOOKS_MAX)

    def get(self, name: str) -> Webhook:
        """Return the webhook of this name.

        Raises:
            WebhookNotFoundError: there is none of this name.
        """
        with self._database.autocommit() as connection:
            return subscriptions.get(connection, name)

    def change(self, name: str, *, by: str = "system", **changes: Any) -> Webhook:
        """Change what is given of a webhook; what waits is delivered as it says then.

        Args:
            name: of the webhook.
            by: who changes it.
            **changes: as of `WebhookChanges`: url, events, queues, types, tags, headers, with_contents,
                ordered.

        Raises:
            WebhookNotFoundError: there is none of this name.
            InvalidJobError: something about it is wrong, or its address may not be called.
        """
        return self.change_to(name, validate(WebhookChanges, changes), by=by)

    def change_to(
        self, name: str, wanted: WebhookChanges, *, by: str, maker: Principal | None = None
    ) -> Webhook:
        """Change a webhook as `change` does. A `maker` sends nowhere what it may not read itself.

        Raises:
            ForbiddenError: the maker has not payloads:read, and bodies have contents.
        """
        changes = wanted.changes()
        if "url" in changes:
            self._expect_allowed(changes["url"])
        if changes.get("ordered"):
            self._keep_order()
        with self._database.transaction() as connection:
            before = subscriptions.get(connection, name)
            _expect_reads(maker, with_contents=changes.get("with_contents", before.with_contents))
            if "headers" in changes:
                _expect_no_kept(changes["headers"], before.headers)
                changes["headers"] = _with_kept(changes["headers"], before.headers)
            after = subscriptions.change(connection, name, changes)
            audit.record(
                connection, "webhook.change", target_of(name), before=_noted(before), after=_noted(after)
            )
        log.info("webhook_changed", webhook=name, by=by)
        return after

    def delete(self, name: str, *, by: str = "system") -> None:
        """Delete a webhook with its secrets, and soon after its deliveries; nothing is delivered any more.

        Raises:
            WebhookNotFoundError: there is none of this name.
        """
        with self._database.transaction() as connection:
            before = subscriptions.get(connection, name)
            subscriptions.delete(connection, name)
            audit.record(connection, "webhook.delete", target_of(name), before=_noted(before))
        log.info("webhook_deleted", webhook=name, by=by)

    def rotate(
        self,
        name: str,
        *,
        overlap_seconds: float | None = None,
        secret: str | None = None,
        by: str = "system",
    ) -> MadeWebhook:
        """Give a webhook another secret, and return it; the one before signs as well for a while.

        Args:
            name: of the webhook.
            overlap_seconds: how long; a day where it is not said, 0: not at all.
            secret: the new one; where none is given it is made.
            by: who rotates it.

        Raises:
            WebhookNotFoundError: there is none of this name.
            InvalidJobError: the overlap is negative or longer than 90 days, or it is no secret.
        """
        said = {"overlap_seconds": overlap_seconds, "secret": secret}
        given = {name: value for name, value in said.items() if value is not None}
        return self.rotate_as(name, validate(RotateWebhook, given), by=by)

    def rotate_as(self, name: str, wanted: RotateWebhook, *, by: str) -> MadeWebhook:
        """Rotate the secret of a webhook as `rotate` does."""
        secret = wanted.secret or new_secret()
        overlap = wanted.overlap_seconds
        with self._database.transaction() as connection:
            webhook = subscriptions.rotate(connection, name, secret, overlap_seconds=overlap)
            audit.record(connection, "webhook.rotate", target_of(name), after={"overlap_seconds": overlap})
        log.info("webhook_rotated", webhook=name, overlap_seconds=overlap, by=by)
        return MadeWebhook(webhook, secret)

    def enable(self, name: str, *, by: str = "system") -> Webhook:
        """Tell a webhook of events again, from where it stood; an active one stays as it is.

        What was kept meanwhile is delivered. Where events are gone, a `webhook.gap` says so.

        Raises:
            WebhookNotFoundError: there is none of this name.
            DatabaseUnavailableError: as `create`.
        """
        self._listen()
        with self._database.transaction() as connection:
            before = subscriptions.get(connection, name)
            webhook = subscriptions.set_state(connection, before.id, "active")
            if webhook is None:
                return before
            audit.record(
                connection, "webhook.enable", target_of(name), before={"reason": before.disabled_reason}
            )
            events.note(connection, EventKind.WEBHOOK_ENABLED, {"webhook": name})
        log.info("webhook_enabled", webhook=name, by=by)
        return webhook

    def disable(self, name: str, *, reason: str | None = None, by: str = "system") -> Webhook:
        """Tell a webhook of nothing any more, until it is enabled; a disabled one stays as it is.

        Raises:
            WebhookNotFoundError: there is none of this name.
        """
        with self._database.transaction() as connection:
            before = subscriptions.get(connection, name)
            reason = reason or f"disabled by {by}"
            webhook = disable_in(connection, before.id, reason)
        return webhook or before

    def _listen(self) -> None:
        self._listening.keep(LEASE_NAME, self._settings.event_retention_seconds)

    def _expect_allowed(self, url: str) -> None:
        if is_refused(host_of(url), self._settings.webhook_allow_networks):
            raise InvalidJobError({"url": ADDRESS_REFUSED})

    def _keep_order(self) -> None:
        """Let the queue of the deliveries run one job of a key after the other."""
        with self._database.autocommit() as connection:
            queue_rows.ensure(connection, [DELIVERY_QUEUE])
        self._flow.set_queue(DELIVERY_QUEUE, QueueSettings(key_concurrency=1, fifo=True))


def _expect_reads(maker: Principal | None, *, with_contents: bool) -> None:
    if with_contents and maker is not None and not maker.reads_contents:
        raise ForbiddenError(f"bodies with contents take the scope {Scope.PAYLOADS_READ}")


def _expect_no_kept(headers: dict[str, str], before: Mapping[str, str]) -> None:
    """Refuse the sign for a present value where there is none."""
    for name, value in headers.items():
        if value == KEPT and name not in before:
            raise InvalidJobError({f"headers.{name}": f"there is no present value that {KEPT} could keep"})


def _with_kept(headers: dict[str, str], before: Mapping[str, str]) -> dict[str, str]:
    return {name: before[name] if value == KEPT else value for name, value in headers.items()}


def _noted(webhook: Webhook) -> dict[str, Any]:
    """A webhook for the audit log: of its headers the names, of its secrets nothing."""
    return {
        "url": webhook.url,
        "events": webhook.events,
        "queues": webhook.queues,
        "types": webhook.types,
        "tags": webhook.tags,
        "headers": sorted(webhook.headers),
        "with_contents": webhook.with_contents,
        "ordered": webhook.ordered,
    }
