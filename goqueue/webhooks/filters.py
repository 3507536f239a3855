"""The choice of the events that a subscription is told of."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache

from goqueue.errors import InvalidJobError
from goqueue.events.event import Event
from goqueue.events.event_filter import kinds_of
from goqueue.webhooks.subscription_rows import Webhook

__all__ = ["DELIVERY_QUEUE", "DELIVERY_TYPE", "chooses", "is_kind", "is_own"]

#: What delivers is a job of GoQueue, of this type, in a queue of its own.
DELIVERY_TYPE = "deliver_webhook"
DELIVERY_QUEUE = "webhook-deliveries"


def is_kind(name: str) -> bool:
    """Tell whether a name is a kind of event, or stands for all kinds of a subject: `job.*`."""
    return bool(_kinds(name))


def is_own(event: Event) -> bool:
    """Tell whether an event is about a job that delivers: nobody is told of it, or it would never end."""
    return event.type == DELIVERY_TYPE and event.kind.startswith("job.")


def chooses(webhook: Webhook, event: Event, tags: Collection[str]) -> bool:
    """Tell whether a subscription is told of an event.

    Args:
        webhook: the subscription; each filter that it has must fit.
        event: what happened.
        tags: those of the job that it is about.
    """
    return (
        (webhook.events is None or any(event.kind in _kinds(name) for name in webhook.events))
        and (webhook.queues is None or event.queue in webhook.queues)
        and (webhook.types is None or event.type in webhook.types)
        and (webhook.tags is None or any(tag in tags for tag in webhook.tags))
    )


@lru_cache(maxsize=1_000)
def _kinds(name: str) -> frozenset[str]:
    """The kinds that a name stands for; none where another release knew it."""
    try:
        return kinds_of([name]) or frozenset()
    except InvalidJobError:
        return frozenset()
