"""`goqueue webhooks`: webhooks made, listed, tried, rotated, disabled and deleted from a terminal."""

from __future__ import annotations

import argparse
import getpass
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.instance import GoQueue
from goqueue.observability.printable import printable
from goqueue.ops.keys_command import Answer
from goqueue.webhooks.delivery_log_rows import DeliveryFilter
from goqueue.webhooks.delivery_rows import Delivery
from goqueue.webhooks.requests import OVERLAP_SECONDS
from goqueue.webhooks.subscription_rows import Webhook
from goqueue.webhooks.webhooks import MadeWebhook, Webhooks

__all__ = ["run"]

_HEAD = ("NAME", "STATE", "URL", "EVENTS", "TOLD UNTIL", "FAILING SINCE")
_LOG_HEAD = ("ID", "EVENT", "JOB", "STATE", "CALLS", "NOTED")


def run(settings: Settings, options: argparse.Namespace) -> Answer:
    """Do what the command line says.

    Raises:
        InvalidJobError: a URL, an event or a time is wrong.
        WebhookNotFoundError: there is no such webhook.
        WebhookConflictError: there is one of that name, or what is to be delivered again is under way.
        DatabaseUnavailableError: PostgreSQL does not answer.
    """
    database = Database(settings, application_name="goqueue-webhooks")
    with GoQueue(settings, database=database) as goqueue:
        return _ACTIONS[options.action](goqueue.webhooks, options, f"{getpass.getuser()} at a terminal")


def _create(webhooks: Webhooks, options: argparse.Namespace, by: str) -> Answer:
    headers = dict(_header(text) for text in options.header or ())
    made = webhooks.create(
        options.name,
        options.url,
        by=by,
        events=options.event,
        queues=options.queue,
        types=options.type,
        tags=options.tag,
        headers=headers,
        ordered=options.ordered,
        with_contents=options.with_contents,
    )
    return _secret(made)


def _rotate(webhooks: Webhooks, options: argparse.Namespace, by: str) -> Answer:
    overlap = OVERLAP_SECONDS if options.overlap is None else options.overlap
    made = webhooks.rotate(options.name, overlap_seconds=overlap, by=by)
    until = made.webhook.previous_until
    return _secret(
        made, [] if until is None else [f"the secret before signs as well until {_when(until)} UTC"]
    )


def _list(webhooks: Webhooks, _options: argparse.Namespace, _by: str) -> Answer:
    return Answer(_table([_HEAD, *map(_row, webhooks.list())]))


def _ping(webhooks: Webhooks, options: argparse.Namespace, _by: str) -> Answer:
    ping = webhooks.ping(options.name)
    return Answer(f"the ping {ping.id} is on its way, by the job {ping.job_id}")


def _enable(webhooks: Webhooks, options: argparse.Namespace, by: str) -> Answer:
    webhooks.enable(options.name, by=by)
    return Answer(f"{options.name} is told of events again, from where it stood")


def _disable(webhooks: Webhooks, options: argparse.Namespace, by: str) -> Answer:
    webhook = webhooks.disable(options.name, reason=options.reason, by=by)
    return Answer(printable(f"{options.name} is disabled: {webhook.disabled_reason}"))


def _delete(webhooks: Webhooks, options: argparse.Namespace, by: str) -> Answer:
    webhooks.delete(options.name, by=by)
    return Answer(f"{options.name} is deleted")


def _deliveries(webhooks: Webhooks, options: argparse.Namespace, _by: str) -> Answer:
    found = webhooks.deliveries(options.name, DeliveryFilter(options.state), limit=options.limit)
    return Answer(_table([_LOG_HEAD, *map(_line, found)]))


def _redeliver(webhooks: Webhooks, options: argparse.Namespace, _by: str) -> Answer:
    if options.id is not None:
        webhooks.redeliver(options.name, options.id)
        return Answer(f"the delivery {options.id} is delivered again")
    since = datetime.now(UTC) - timedelta(seconds=options.days)
    deliveries = webhooks.redeliver_range(options.name, since, state=options.state or "failed")
    return Answer(f"{deliveries:,} deliveries are delivered again")


_ACTIONS: dict[str, Callable[[Webhooks, argparse.Namespace, str], Answer]] = {
    "create": _create,
    "list": _list,
    "ping": _ping,
    "rotate": _rotate,
    "enable": _enable,
    "disable": _disable,
    "delete": _delete,
    "deliveries": _deliveries,
    "redeliver": _redeliver,
}


def _secret(made: MadeWebhook, notes: Sequence[str] = ()) -> Answer:
    return Answer(made.secret, [f"{made.webhook.name}: its secret is not shown again", *notes])


def _header(text: str) -> tuple[str, str]:
    name, _, value = text.partition(":")
    return name.strip(), value.strip()


def _row(webhook: Webhook) -> Sequence[str]:
    return (
        webhook.name,
        webhook.state,
        printable(webhook.url),
        printable(", ".join(webhook.events or ("all",))),
        _when(webhook.cursor_at),
        _when(webhook.failing_since),
    )


def _line(delivery: Delivery) -> Sequence[str]:
    about: Any = delivery.about_job_id or "-"
    return (
        str(delivery.id),
        printable(delivery.kind),
        str(about),
        delivery.state,
        str(delivery.attempts),
        _when(delivery.created_at),
    )


def _when(moment: datetime | None) -> str:
    return "-" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
