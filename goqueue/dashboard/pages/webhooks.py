"""The pages of the webhooks: all of them, and one with its deliveries and what is done to it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import falcon

from goqueue.api.frame.security import principal_of
from goqueue.dashboard.access.guard import FOLDER, form_of
from goqueue.dashboard.forms.webhook import FIELDS, document_of, said_of, wrong_by_field
from goqueue.dashboard.notices import go_to
from goqueue.dashboard.page import Page, Site
from goqueue.engine.options.request_models import validate
from goqueue.errors import InvalidJobError
from goqueue.events.event import EventKind
from goqueue.jobs import MAX_JOB_ID
from goqueue.webhooks.bodies import GAP, PING
from goqueue.webhooks.delivery_log import COUNTED_MAX
from goqueue.webhooks.delivery_log_rows import DeliveryFilter
from goqueue.webhooks.delivery_rows import DeliveryState
from goqueue.webhooks.requests import OVERLAP_SECONDS, NewWebhook, RedeliverRange, WebhookChanges
from goqueue.webhooks.subscription_rows import Webhook
from goqueue.webhooks.webhooks import MadeWebhook

__all__ = ["DeliveryPage", "RedeliverAction", "WebhookAction", "WebhookPage", "WebhooksPage"]

PLACE = f"{FOLDER}/webhooks"

PAGE_DELIVERIES = 50


class _WebhookForms(Page):
    """The pages that have the form of a webhook."""

    def _show_all(
        self,
        request: falcon.Request,
        response: falcon.Response,
        *,
        made: MadeWebhook | None = None,
        said: dict[str, str] | None = None,
        wrong: dict[str, str] | None = None,
    ) -> None:
        self._renderer.page(
            request,
            response,
            "webhooks.html",
            webhooks=self._goqueue.webhooks.list(),
            made=made,
            said=said or dict.fromkeys(FIELDS, ""),
            wrong=wrong or {},
            kinds=list(EventKind),
        )
        if made is not None:
            response.set_header("Cache-Control", "no-store")

    def _show(
        self,
        request: falcon.Request,
        response: falcon.Response,
        name: str,
        *,
        made: MadeWebhook | None = None,
        said: dict[str, str] | None = None,
        wrong: dict[str, str] | None = None,
    ) -> None:
        webhook = self._goqueue.webhooks.get(name)
        self._renderer.page(
            request,
            response,
            "webhook.html",
            webhook=webhook,
            counts=self._goqueue.webhooks.counts([webhook])[webhook.id],
            counted_max=COUNTED_MAX,
            gap=_gap_of(webhook),
            log=self._log(request, webhook),
            states=list(DeliveryState),
            made=made,
            said=said or said_of(webhook),
            wrong=wrong or {},
            kinds=list(EventKind),
            overlap_seconds=OVERLAP_SECONDS,
            disable_after_seconds=self._goqueue.settings.webhook_disable_after_seconds,
        )
        if made is not None:
            response.set_header("Cache-Control", "no-store")

    def _log(self, request: falcon.Request, webhook: Webhook) -> dict[str, Any]:
        """A page of the log, of one state where that is asked for."""
        state = request.get_param("state") or None
        before = request.get_param_as_int("before", min_value=1, max_value=MAX_JOB_ID)
        wanted = DeliveryFilter(state=state if state in set(DeliveryState) else None)
        found = self._goqueue.webhooks.deliveries(
            webhook.name, wanted, limit=PAGE_DELIVERIES + 1, before_id=before
        )
        more = len(found) > PAGE_DELIVERIES
        found = found[:PAGE_DELIVERIES]
        place = f"{PLACE}/{webhook.name}"
        kept = {} if wanted.state is None else {"state": wanted.state}
        return {
            "deliveries": found,
            "state": wanted.state,
            "is_first": before is None,
            "newest": f"{place}?{urlencode(kept)}" if kept else place,
            "older": f"{place}?{urlencode(kept | {'before': found[-1].id})}" if more else None,
            "special": {PING, GAP},
        }


class WebhooksPage(_WebhookForms):
    """The page with all webhooks."""

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """List the webhooks, and show the form of a new one."""
        self._show_all(request, response)

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Make a webhook, and show its secret, this once. What is wrong is told beside the fields."""
        said, principal = form_of(request), principal_of(request)
        try:
            wanted = validate(NewWebhook, document_of(said) | {"name": said.get("name", "").strip()})
            made = self._goqueue.webhooks.create_new(wanted, by=principal.label, maker=principal)
        except InvalidJobError as error:
            response.status = falcon.HTTP_400
            known = dict.fromkeys(FIELDS, "") | said
            self._show_all(request, response, said=known, wrong=wrong_by_field(error.fields))
            return
        self._show_all(request, response, made=made)


class WebhookPage(_WebhookForms):
    """The page of one webhook."""

    def on_get(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Show the webhook, what it was told, and its form."""
        self._show(request, response, name)

    def on_post(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Change what the form says of the webhook. What is wrong is told beside the fields."""
        said, principal = form_of(request), principal_of(request)
        try:
            wanted = validate(WebhookChanges, document_of(said))
            self._goqueue.webhooks.change_to(name, wanted, by=principal.label, maker=principal)
        except InvalidJobError as error:
            response.status = falcon.HTTP_400
            known = dict.fromkeys(FIELDS, "") | said
            self._show(request, response, name, said=known, wrong=wrong_by_field(error.fields))
            return
        go_to(request, response, f"{PLACE}/{name}", f"{name} is changed.")


class WebhookAction(_WebhookForms):
    """An action of the page of a webhook: its name is the end of the address."""

    def __init__(self, site: Site, action: str) -> None:
        super().__init__(site)
        actions: dict[str, Callable[[falcon.Request, str], str]] = {
            "ping": self._ping,
            "enable": self._enable,
            "disable": self._disable,
            "delete": self._delete,
            "redeliver": self._redeliver,
        }
        self._do = actions.get(action)

    def on_post(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Do it, and go back to the page; a rotation shows the secret there, this once."""
        if self._do is None:
            made = self._goqueue.webhooks.rotate(name, by=principal_of(request).label)
            self._show(request, response, name, made=made)
            return
        said = self._do(request, name)
        is_there = self._do != self._delete
        go_to(request, response, f"{PLACE}/{name}" if is_there else PLACE, said)

    def _ping(self, _request: falcon.Request, name: str) -> str:
        ping = self._goqueue.webhooks.ping(name)
        return f"The ping {ping.id} is on its way."

    def _enable(self, request: falcon.Request, name: str) -> str:
        self._goqueue.webhooks.enable(name, by=principal_of(request).label)
        return f"{name} is told of events again."

    def _disable(self, request: falcon.Request, name: str) -> str:
        self._goqueue.webhooks.disable(name, by=principal_of(request).label)
        return f"{name} is disabled."

    def _delete(self, request: falcon.Request, name: str) -> str:
        self._goqueue.webhooks.delete(name, by=principal_of(request).label)
        return f"{name} is deleted."

    def _redeliver(self, request: falcon.Request, name: str) -> str:
        said = form_of(request)
        document = {key: said[key].strip() for key in ("since", "until", "state") if said.get(key)}
        wanted = validate(RedeliverRange, {key: _moment(key, text) for key, text in document.items()})
        deliveries = self._goqueue.webhooks.redeliver_range_of(name, wanted)
        return f"{deliveries:,} deliveries are delivered again."


class DeliveryPage(Page):
    """The page of one delivery."""

    def on_get(self, request: falcon.Request, response: falcon.Response, name: str, delivery_id: int) -> None:
        """Show the delivery with its body and the calls that it took."""
        webhook = self._goqueue.webhooks.get(name)
        details = self._goqueue.webhooks.delivery(name, delivery_id)
        self._renderer.page(
            request,
            response,
            "webhook_delivery.html",
            webhook=webhook,
            webhook_id=webhook.id_of_delivery(delivery_id),
            delivery=details.delivery,
            calls=details.calls,
        )


class RedeliverAction(Page):
    """The action that delivers something again."""

    def on_post(
        self, request: falcon.Request, response: falcon.Response, name: str, delivery_id: int
    ) -> None:
        """Deliver it again, and go back to its page."""
        self._goqueue.webhooks.redeliver(name, delivery_id)
        place = f"{PLACE}/{name}/deliveries/{delivery_id}"
        go_to(request, response, place, "It is delivered again.")


def _gap_of(webhook: Webhook) -> list[str] | None:
    """The moments between which it was not told of events: they are compared with logs, so not "2 d ago"."""
    if webhook.gap_since is None or webhook.gap_until is None:
        return None
    return [
        f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" for moment in (webhook.gap_since, webhook.gap_until)
    ]


def _moment(field: str, text: str) -> Any:
    """A moment as a browser's field writes it, which is UTC here; of another field, the text."""
    if field == "state":
        return text
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
