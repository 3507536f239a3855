"""Requests about webhooks: what is said of a new one, of a changed one, and of what is delivered again."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from goqueue.engine.options.receiver_url import ReceiverUrl
from goqueue.engine.options.request_models import Moment, Name, Request, Tag
from goqueue.events.event import EventKind
from goqueue.webhooks.delivery_rows import DeliveryState
from goqueue.webhooks.filters import is_kind
from goqueue.webhooks.signatures import SECRET_BYTES, key_of
from goqueue.webhooks.targets import TargetHeaders

__all__ = [
    "OVERLAP_MAX_SECONDS",
    "OVERLAP_SECONDS",
    "NewWebhook",
    "RedeliverRange",
    "RotateWebhook",
    "WebhookChanges",
]

#: How long the secret before a rotation signs as well, where nothing else is said.
OVERLAP_SECONDS = 86_400.0
OVERLAP_MAX_SECONDS = 90 * 86_400.0

_FEW = Field(max_length=100, strict=False)

_KIND_NAMES = sorted({*map(str, EventKind), *(f"{kind.partition('.')[0]}.*" for kind in EventKind)})


def _check_kind(name: str) -> str:
    if not is_kind(name):
        raise PydanticCustomError(
            "event_kind", "expected a kind of event, such as job.completed, or all of a subject, job.*"
        )
    return name


def _check_secret(secret: str) -> str:
    key = key_of(secret) if secret.startswith("whsec_") else None
    if key is None or len(key) not in SECRET_BYTES:
        raise PydanticCustomError("webhook_secret", "expected whsec_ and 24 to 64 bytes in base64")
    return secret


def _empty_as_none(value: Any) -> Any:
    return value or None


WebhookName = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$",
        description="What it is called: letters, digits, points, dashes.",
    ),
]
Secret = Annotated[
    str,
    Field(max_length=200, json_schema_extra={"pattern": r"^whsec_[A-Za-z0-9+/]{32,88}={0,2}$"}),
    AfterValidator(_check_secret),
]
EventKindName = Annotated[
    Name, AfterValidator(_check_kind), Field(json_schema_extra={"enum": list(_KIND_NAMES)})
]
EventNames = Annotated[
    Annotated[tuple[EventKindName, ...], _FEW] | None,
    AfterValidator(_empty_as_none),
    Field(description="Only these kinds of events: job.completed; job.* are all of jobs. Default: all."),
]
Queues = Annotated[
    Annotated[tuple[Name, ...], _FEW] | None,
    AfterValidator(_empty_as_none),
    Field(description="Only events of these queues."),
]
Types = Annotated[
    Annotated[tuple[Name, ...], _FEW] | None,
    AfterValidator(_empty_as_none),
    Field(description="Only events of these job types."),
]
Tags = Annotated[
    Annotated[tuple[Tag, ...], _FEW] | None,
    AfterValidator(_empty_as_none),
    Field(description="Only events of jobs with one of these tags."),
]
Headers = Annotated[
    TargetHeaders,
    Field(description="Sent besides our own. Their values are not shown again; *** keeps the present one."),
]
Url = Annotated[ReceiverUrl, Field(description="Where events are delivered, by POST.")]
WithContents = Annotated[
    bool,
    Field(description="Bodies have what jobs hold: payload, result, error. Takes payloads:read."),
]
Ordered = Annotated[bool, Field(description="A delivery waits until the one before has ended.")]


class NewWebhook(Request):
    """A webhook to be made: where events are delivered, and which."""

    name: WebhookName
    url: Url
    events: EventNames = None
    queues: Queues = None
    types: Types = None
    tags: Tags = None
    headers: Headers = Field(default_factory=dict)
    secret: Annotated[
        Secret | None, Field(description="What signs: whsec_ and base64. Default: one is made.")
    ] = None
    with_contents: WithContents = False
    ordered: Ordered = False


class WebhookChanges(Request):
    """Changes of a webhook. Only what is given changes; null takes a filter away."""

    url: Url | None = None
    events: EventNames = None
    queues: Queues = None
    types: Types = None
    tags: Tags = None
    headers: Headers | None = None
    with_contents: WithContents | None = None
    ordered: Ordered | None = None

    def changes(self) -> dict[str, Any]:
        """Return what was given; null of what is no filter is its default."""
        defaults = {"headers": {}, "with_contents": False, "ordered": False}
        given = {name: getattr(self, name) for name in self.model_fields_set}
        changes = {name: defaults.get(name) if value is None else value for name, value in given.items()}
        if changes.get("url", "") is None:
            del changes["url"]
        return changes


class RotateWebhook(Request):
    """How a webhook is given another secret."""

    overlap_seconds: Annotated[
        float,
        Field(
            ge=0,
            le=OVERLAP_MAX_SECONDS,
            allow_inf_nan=False,
            description="How long the secret before signs as well.",
        ),
    ] = OVERLAP_SECONDS
    secret: Annotated[Secret | None, Field(description="The new one. Default: one is made.")] = None


class RedeliverRange(Request):
    """The deliveries of a webhook that are delivered again: those that have ended, of a time."""

    since: Annotated[Moment, Field(description="Those of events that were noted then or later.")]
    until: Annotated[Moment | None, Field(description="And before then. Default: until now.")] = None
    state: Annotated[
        Annotated[DeliveryState, Field(strict=False)],
        Field(description="Only those that are failed, or delivered."),
    ] = DeliveryState.FAILED
