"""The webhooks: made, changed, tried, rotated, disabled; and the log of what they were told."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import falcon
from pydantic import BaseModel, ConfigDict, Field

from goqueue.api.frame.answers import CONTENTS, WITHHELD, Document, as_json, reader_of
from goqueue.api.frame.bodies import read_document, read_optional_document
from goqueue.api.frame.cursors import link_next
from goqueue.api.frame.resource import Resource
from goqueue.api.frame.security import principal_of
from goqueue.engine.options.request_models import Name, QueryMoment, Request, validate
from goqueue.jobs import MAX_JOB_ID
from goqueue.webhooks.delivery_log import COUNTED_MAX, DeliveryDetails
from goqueue.webhooks.delivery_log_rows import DeliveryFilter
from goqueue.webhooks.delivery_rows import Delivery, DeliveryState
from goqueue.webhooks.requests import NewWebhook, RedeliverRange, RotateWebhook, WebhookChanges
from goqueue.webhooks.subscription_rows import Webhook
from goqueue.webhooks.webhooks import KEPT, MadeWebhook

PAGE_MAX = 1_000


class DisableWebhook(Request):
    """Why a webhook is disabled."""

    reason: Annotated[Name | None, Field(description="For whoever finds it disabled.")] = None


class WebhookDocument(Document):
    """A webhook, without its secret and the values of its headers."""

    name: str
    url: str
    events: Annotated[list[str] | None, Field(description="Only these kinds. Null: all.")]
    queues: Annotated[list[str] | None, Field(description="Only events of these queues. Null: of all.")]
    types: Annotated[list[str] | None, Field(description="Only events of these job types. Null: of all.")]
    tags: Annotated[
        list[str] | None, Field(description="Only events of jobs with one of these. Null: of all.")
    ]
    headers: Annotated[dict[str, str], Field(description="Their names; the values are hidden.")]
    with_contents: Annotated[bool, Field(description="Whether bodies have what jobs hold.")]
    ordered: Annotated[bool, Field(description="Whether a delivery waits for the one before.")]
    state: Literal["active", "disabled"]
    state_since: datetime
    disabled_reason: str | None
    failing_since: Annotated[
        datetime | None, Field(description="Since when every attempt has failed. Null: the last one did not.")
    ]
    told_until: Annotated[datetime, Field(description="Up to then its events are deliveries.")]
    gap_since: Annotated[
        datetime | None, Field(description="The last time whose events it was not told of, because they")
    ]
    gap_until: Annotated[datetime | None, Field(description="were gone: from the one to the other moment.")]
    previous_until: Annotated[
        datetime | None, Field(description="Until when the secret before the last rotation signs as well.")
    ]
    created_by: str
    created_at: datetime
    updated_at: datetime


class MadeWebhookDocument(WebhookDocument):
    """A webhook that was made or rotated."""

    secret: Annotated[str, Field(description="What verifies its signatures. It is not shown again.")]


class WebhookCountsDocument(WebhookDocument):
    """A webhook, and how many deliveries it has."""

    deliveries: Annotated[
        dict[str, int],
        Field(description=f"By state, those that are still kept; none is counted beyond {COUNTED_MAX:,}."),
    ]


class DeliveryDocument(Document):
    """An event that a webhook is told of."""

    id: int
    webhook_id: Annotated[str, Field(description="As the header of that name has it, in every attempt.")]
    event: Annotated[str, Field(description="Its kind; webhook.ping and webhook.gap are no events.")]
    job_id: Annotated[int | None, Field(description="The job that the event is about.")]
    state: DeliveryState
    attempts: Annotated[int, Field(description="How many calls there were.")]
    delivery_job_id: Annotated[int | None, Field(description="The job that delivers it.")]
    created_at: datetime
    finished_at: datetime | None


class CallDocument(Document):
    """One call of the receiver."""

    at: datetime
    seconds: float
    status: Annotated[int | None, Field(description="Of the answer. Null: none came.")]
    answer: Annotated[str | None, CONTENTS, Field(description=f"Its first KiB. {WITHHELD}")]
    error: Annotated[str | None, Field(description="Why it counts as failed.")]
    job_id: Annotated[int, Field(description="The job that made it.")]


class DeliveryDetailsDocument(DeliveryDocument):
    """A delivery with its body, and the calls that it took."""

    body: Annotated[str | None, CONTENTS, Field(description=f"As it is sent. {WITHHELD}")]
    calls: list[CallDocument]


class RedeliveredDocument(Document):
    """How many deliveries are delivered again."""

    deliveries: int


class DeliveriesQuery(BaseModel):
    """The query of GET /webhooks/{name}/deliveries."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    state: DeliveryState | None = None
    event: Annotated[Name | None, Field(description="Only of this kind.")] = None
    job_id: Annotated[
        int | None, Field(ge=1, le=MAX_JOB_ID, description="Only of events about this job.")
    ] = None
    since: Annotated[QueryMoment | None, Field(description="Then or later.")] = None
    until: Annotated[QueryMoment | None, Field(description="Before then.")] = None
    limit: Annotated[int, Field(ge=1, le=PAGE_MAX)] = 100
    cursor: Annotated[
        int | None, Field(ge=1, le=MAX_JOB_ID, description="From the Link header of the page before.")
    ] = None

    def filter(self) -> DeliveryFilter:
        """Make the filter that the rows are read by."""
        return DeliveryFilter(self.state, self.event, self.job_id, self.since, self.until)


_webhook_members = reader_of(WebhookDocument, told_until="cursor_at")
_call_members = reader_of(CallDocument)


class WebhooksResource(Resource):
    """The webhooks: a GET lists them, a POST makes one."""

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """List all webhooks by their names."""
        response.data = as_json([_document(webhook) for webhook in self._goqueue.webhooks.list()])

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Make a webhook; nobody is shown its secret again."""
        wanted = validate(NewWebhook, read_document(request, self._goqueue.settings.job_max_bytes))
        principal = principal_of(request)
        made = self._goqueue.webhooks.create_new(wanted, by=principal.label, maker=principal)
        response.status = falcon.HTTP_201
        response.location = f"/webhooks/{made.webhook.name}"
        response.data = as_json(_made(made))


class WebhookResource(Resource):
    """The resource of one webhook."""

    def on_get(self, _request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Return the webhook and how many deliveries it has."""
        webhooks = self._goqueue.webhooks
        webhook = webhooks.get(name)
        counts = webhooks.counts([webhook])[webhook.id]
        response.data = as_json(_document(webhook) | {"deliveries": counts})

    def on_patch(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Change what is given of the webhook."""
        wanted = validate(WebhookChanges, read_document(request, self._goqueue.settings.job_max_bytes))
        principal = principal_of(request)
        changed = self._goqueue.webhooks.change_to(name, wanted, by=principal.label, maker=principal)
        response.data = as_json(_document(changed))

    def on_delete(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Delete the webhook; nothing is delivered to it any more."""
        self._goqueue.webhooks.delete(name, by=principal_of(request).label)
        response.status = falcon.HTTP_204


class PingWebhookResource(Resource):
    """A delivery that only tries whether the receiver takes some."""

    def on_post(self, _request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Deliver a webhook.ping, once."""
        ping = self._goqueue.webhooks.ping(name)
        response.status = falcon.HTTP_202
        response.data = as_json(_delivery(self._goqueue.webhooks.get(name), ping))


class RotateWebhookResource(Resource):
    """The rotation of a webhook's secret."""

    def on_post(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Give the webhook another secret; the one before signs as well for a while."""
        document = read_optional_document(request, self._goqueue.settings.job_max_bytes)
        wanted = validate(RotateWebhook, document)
        made = self._goqueue.webhooks.rotate_as(name, wanted, by=principal_of(request).label)
        response.data = as_json(_made(made))


class EnableWebhookResource(Resource):
    """The end of a webhook's being disabled."""

    def on_post(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Tell the webhook of events again, from where it stood."""
        webhook = self._goqueue.webhooks.enable(name, by=principal_of(request).label)
        response.data = as_json(_document(webhook))


class DisableWebhookResource(Resource):
    """A webhook's being told of nothing."""

    def on_post(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Disable the webhook until somebody enables it."""
        document = read_optional_document(request, self._goqueue.settings.job_max_bytes)
        reason = validate(DisableWebhook, document).reason
        webhook = self._goqueue.webhooks.disable(name, reason=reason, by=principal_of(request).label)
        response.data = as_json(_document(webhook))


class DeliveriesResource(Resource):
    """The log of a webhook's deliveries."""

    def on_get(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """List deliveries, the newest first; the next page is in the Link header."""
        query = validate(DeliveriesQuery, request.params, whole="query")
        webhooks = self._goqueue.webhooks
        webhook = webhooks.get(name)
        found = webhooks.deliveries(name, query.filter(), limit=query.limit + 1, before_id=query.cursor)
        if len(found) > query.limit:
            found.pop()
            link_next(request, response, str(found[-1].id))
        response.data = as_json([_delivery(webhook, delivery) for delivery in found])


class DeliveryResource(Resource):
    """The resource of one delivery."""

    def on_get(
        self, _request: falcon.Request, response: falcon.Response, name: str, delivery_id: int
    ) -> None:
        """Return the delivery with its body and its calls."""
        webhooks = self._goqueue.webhooks
        response.data = as_json(_details(webhooks.get(name), webhooks.delivery(name, delivery_id)))


class RedeliverResource(Resource):
    """One delivery's being delivered again."""

    def on_post(
        self, _request: falcon.Request, response: falcon.Response, name: str, delivery_id: int
    ) -> None:
        """Deliver again what has been delivered or has failed, under the same webhook-id."""
        delivery = self._goqueue.webhooks.redeliver(name, delivery_id)
        response.status = falcon.HTTP_202
        response.data = as_json(_delivery(self._goqueue.webhooks.get(name), delivery))


class RedeliverRangeResource(Resource):
    """Many deliveries' being delivered again."""

    def on_post(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Deliver again what failed, or was delivered, of events of a time."""
        wanted = validate(RedeliverRange, read_document(request, self._goqueue.settings.job_max_bytes))
        response.status = falcon.HTTP_202
        response.data = as_json({"deliveries": self._goqueue.webhooks.redeliver_range_of(name, wanted)})


def _document(webhook: Webhook) -> dict[str, Any]:
    return _webhook_members(webhook) | {"headers": dict.fromkeys(webhook.headers, KEPT)}


def _made(made: MadeWebhook) -> dict[str, Any]:
    return _document(made.webhook) | {"secret": made.secret}


def _delivery(webhook: Webhook, delivery: Delivery) -> dict[str, Any]:
    return {
        "id": delivery.id,
        "webhook_id": webhook.id_of_delivery(delivery.id),
        "event": delivery.kind,
        "job_id": delivery.about_job_id,
        "state": delivery.state,
        "attempts": delivery.attempts,
        "delivery_job_id": delivery.job_id,
        "created_at": delivery.created_at,
        "finished_at": delivery.finished_at,
    }


def _details(webhook: Webhook, details: DeliveryDetails) -> dict[str, Any]:
    calls = [_call_members(call) for call in details.calls]
    return _delivery(webhook, details.delivery) | {"body": details.delivery.body, "calls": calls}
