"""The jobs that deliver: made in the transaction that says which delivery is whose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from goqueue.db.database import Connection
from goqueue.engine import create as creation
from goqueue.engine.creation_rows import CreatedNode
from goqueue.engine.graph_rows import NewNode
from goqueue.jobs import NewJob
from goqueue.webhooks import delivery_rows as deliveries
from goqueue.webhooks.bodies import PING
from goqueue.webhooks.delivery_rows import Waiting
from goqueue.webhooks.filters import DELIVERY_QUEUE, DELIVERY_TYPE
from goqueue.webhooks.retry_rules import RETRIES
from goqueue.webhooks.subscription_rows import Webhook

__all__ = ["Creates", "start"]

#: Every create, to be counted after the commit.
Creates = list[tuple[NewJob, CreatedNode]]


def start(connection: Connection, waiting: Sequence[Waiting], webhooks: Mapping[int, Webhook]) -> Creates:
    """Create the jobs of deliveries that have none, in their order, and note them. In a transaction.

    Args:
        connection: of the transaction.
        waiting: the deliveries.
        webhooks: their subscriptions, by id.
    """
    if not waiting:
        return []
    jobs = [_job(one, webhooks[one.subscription_id]) for one in waiting]
    created = creation.insert(connection, [NewNode(job) for job in jobs])
    deliveries.begin(connection, {one.id: row.id for one, row in zip(waiting, created, strict=True)})
    return list(zip(jobs, created, strict=True))


def _job(one: Waiting, webhook: Webhook) -> NewJob:
    """A ping is tried once, and waits for no delivery before it."""
    is_ping = one.kind == PING
    return NewJob(
        queue=DELIVERY_QUEUE,
        type=DELIVERY_TYPE,
        payload=f'{{"delivery_id":{one.id}}}',
        max_retries=0 if is_ping else RETRIES,
        concurrency_key=None if is_ping else webhook.concurrency_key,
    )
