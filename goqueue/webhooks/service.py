"""The feeder of webhooks: reads events, writes down who is told of them, and creates the jobs that do it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import NamedTuple

import structlog

from goqueue import failpoints
from goqueue.config.settings import Settings
from goqueue.db.database import Connection, Database
from goqueue.engine import create as creation
from goqueue.errors import EventCursorError, EventsGoneError
from goqueue.events.cursor import Cursor
from goqueue.events.event import Event
from goqueue.events.feed import EventBatch, EventFeed
from goqueue.events.subscriptions import Subscriptions
from goqueue.observability import metrics
from goqueue.scheduler.service import Counts, Pause, Service
from goqueue.webhooks import delivery_rows as deliveries
from goqueue.webhooks import feeding_rows as subscriptions
from goqueue.webhooks.bodies import GAP, body_of_event, body_of_gap
from goqueue.webhooks.delivery_rows import AboutJob, NewDelivery
from goqueue.webhooks.feeding_rows import ActiveWebhook
from goqueue.webhooks.filters import chooses, is_own
from goqueue.webhooks.starting import Creates, start
from goqueue.webhooks.subscription_rows import Webhook

__all__ = ["LEASE_NAME", "WebhookFeeder"]

log = structlog.get_logger(__name__)

#: Under this name the webhooks listen to events.
LEASE_NAME = "webhooks"

#: The lease is renewed so often, and jobs that ended without their deliveries are looked for.
RENEW_SECONDS = 60.0

#: Events of one transaction.
BATCH = 1_000

#: The most deliveries of one webhook that have a job at the same time.
JOBS_MAX = 1_000

#: Where more deliveries of a webhook than so many wait for their jobs, it is told of no further events.
BACKLOG_MAX = 10_000

#: A cursor that nothing happened behind moves on so often, so that it does not grow old.
IDLE_SECONDS = 10.0

#: Where a webhook has as many jobs as it may, it is looked at again after the first of these, and after twice
#: as long each time that this is so still, up to the second.
REST_SECONDS, REST_MAX_SECONDS = 0.5, 10.0

#: A job that ended so long ago has not delivered what it should.
GRACE_SECONDS = 60.0


class _Rest(NamedTuple):
    """Until when (monotonic) a webhook that can be given no jobs is left alone."""

    until: float
    seconds: float
    is_full: bool


class WebhookFeeder(Service):
    """Makes deliveries of events: one transaction a batch, which moves the cursors as well.

    Any number of them may run: a cursor is moved only from where it was read.
    """

    name = "webhooks"

    def __init__(
        self, settings: Settings, database: Database, pause: Pause, wake: Callable[[], object] = bool
    ) -> None:
        super().__init__(settings, database, pause, wake)
        self._feed = EventFeed(database)
        self._listening = Subscriptions(database)
        self._renewed: float | None = None
        #: A receiver that is down for days costs a look now and then, and not each round.
        self._rests: dict[int, _Rest] = {}

    def run_once(self) -> Counts:
        """Tell every active webhook what is new, up to a batch; how much of what was done."""
        active = self._active()
        if not active:
            self._renewed = None
            return {"events": 0, "jobs": 0, "settled": 0}
        settled = self._renew()
        waiting = {one.webhook.id: one for one in active if one.waits}
        jobs = self.parts.run("waiting", partial(self._start_waiting, waiting), 0) if waiting else 0
        events = 0
        # All are read up to the same moment, so those that have come so far stand at one cursor from then on.
        now = self._feed.now()
        for cursor, group in self._by_cursor(active).items():
            told = self.parts.run(
                f"webhook {group[0].webhook.id}", partial(self._feed_group, cursor, group, now), (0, 0)
            )
            events, jobs = events + told[0], jobs + told[1]
        if jobs:
            self._wake()
        return {"events": events, "jobs": jobs, "settled": settled}

    def pause(self, counts: Counts) -> None:
        """Go on at once while batches are full; else wait."""
        if max(counts.values()) < BATCH:
            self._pause(self._settings.webhook_interval_seconds)

    def _renew(self) -> int:
        """Listen for longer, and give up what has lost its job; how many deliveries that were."""
        now = time.monotonic()
        if self._renewed is not None and now - self._renewed < RENEW_SECONDS:
            return 0
        self._listening.keep(LEASE_NAME, self._settings.event_retention_seconds)
        with self._database.autocommit() as connection:
            settled = deliveries.settle(connection, limit=BATCH, grace_seconds=GRACE_SECONDS)
        self._renewed = now
        return settled

    def _active(self) -> list[ActiveWebhook]:
        """The webhooks that are told of events; what waits is not looked for where there is no room."""
        now = time.monotonic()
        resting = [one for one, rest in self._rests.items() if now < rest.until]
        with self._database.autocommit() as connection:
            active = subscriptions.active(
                connection, backlog=BACKLOG_MAX, idle_seconds=IDLE_SECONDS, without=resting
            )
        there = {one.webhook.id for one in active}
        self._rests = {one: rest for one, rest in self._rests.items() if one in there}
        return active

    def _start_waiting(self, waiting: Mapping[int, ActiveWebhook]) -> int:
        """Create jobs of what waits without new events: held back, or to be delivered again."""
        webhooks = {one: active.webhook for one, active in waiting.items()}
        with self._database.transaction() as connection:
            locked = subscriptions.lock(connection, webhooks)
            creates, begun = _start(connection, locked, webhooks)
        creation.count(creates)
        now = time.monotonic()
        for one, active in waiting.items():
            if one in begun:
                self._rests.pop(one, None)
            else:
                before = self._rests.get(one)
                seconds = min(2 * before.seconds, REST_MAX_SECONDS) if before else REST_SECONDS
                self._rests[one] = _Rest(now + seconds, seconds, active.is_full)
        return len(creates)

    def _feed_group(self, cursor: str, group: Sequence[ActiveWebhook], now: Cursor) -> tuple[int, int]:
        """Tell webhooks with the same cursor what is behind it; how many events and new jobs that were."""
        webhooks = {one.webhook.id: one.webhook for one in group}
        try:
            batch = self._feed.read(Cursor.from_text(cursor), BATCH, until=now.seen)
        except (EventsGoneError, EventCursorError):
            return 0, self._tell_gap(cursor, webhooks, now)
        if not batch.events and not any(one.is_idle for one in group):
            return 0, 0
        new = self._new_deliveries(batch.events, webhooks.values())
        at = None if batch.is_last or not batch.events else batch.events[-1].at
        return len(batch.events), self._commit(cursor, webhooks, batch, new, at)

    def _commit(
        self,
        cursor: str,
        webhooks: Mapping[int, Webhook],
        batch: EventBatch,
        new: Sequence[NewDelivery],
        at: datetime | None,
    ) -> int:
        """Move the cursors, and with them insert what is delivered; how many jobs that made."""
        with self._database.transaction() as connection:
            moved = subscriptions.move(connection, webhooks, cursor, batch.cursor.text, at=at)
            own = [one for one in new if one.subscription_id in moved]
            creates: Creates = []
            if own:
                deliveries.insert(connection, own)
                creates, _ = _start(connection, moved - self._rests.keys(), webhooks)
            failpoints.hit("before_webhook_commit")
        failpoints.hit("after_webhook_commit")
        creation.count(creates)
        metrics.WEBHOOK_DELIVERIES.inc(len(own))
        return len(creates)

    def _tell_gap(self, cursor: str, webhooks: Mapping[int, Webhook], now: Cursor) -> int:
        """Go on with the present where events are gone, and say so: to the receivers as well."""
        with self._database.transaction() as connection:
            gaps = subscriptions.move_over_gap(connection, webhooks, cursor, now.text)
            new = [
                NewDelivery(one, None, GAP, None, body_of_gap(webhooks[one].name, since, until))
                for one, since, until in gaps
            ]
            creates: Creates = []
            if new:
                deliveries.insert(connection, new)
                creates, _ = _start(connection, {one.subscription_id for one in new}, webhooks)
        creation.count(creates)
        for one, since, until in gaps:
            metrics.WEBHOOK_GAPS.inc()
            log.warning(
                "webhook_gap", webhook=webhooks[one].name, since=since.isoformat(), until=until.isoformat()
            )
        return len(creates)

    def _by_cursor(self, active: Sequence[ActiveWebhook]) -> dict[str, list[ActiveWebhook]]:
        """The webhooks that are told of events now, by their cursors: one read for those at the same."""
        groups = defaultdict[str, list[ActiveWebhook]](list)
        for one in active:
            rest = self._rests.get(one.webhook.id)
            if not (one.is_full or (rest is not None and rest.is_full)):
                groups[one.webhook.cursor].append(one)
        return groups

    def _new_deliveries(self, events: Sequence[Event], webhooks: Collection[Webhook]) -> list[NewDelivery]:
        """Choose who is told of what, in the order of the events."""
        told = [event for event in events if not is_own(event)]
        about = self._about_jobs(told, webhooks)
        new: list[NewDelivery] = []
        for event in told:
            job = None if event.job_id is None else about.get(event.job_id)
            tags = job.tags if job else frozenset[str]()
            chosen = [webhook for webhook in webhooks if chooses(webhook, event, tags)]
            plain = body_of_event(event) if chosen else ""
            for webhook in chosen:
                body = body_of_event(event, job) if webhook.with_contents and job else plain
                new.append(NewDelivery(webhook.id, _number_of(event), event.kind, event.job_id, body))
        return new

    def _about_jobs(self, events: Sequence[Event], webhooks: Collection[Webhook]) -> dict[int, AboutJob]:
        """What the filters and bodies of these webhooks need of the jobs, if anything."""
        with_contents = any(webhook.with_contents for webhook in webhooks)
        job_ids = {event.job_id for event in events if event.job_id is not None}
        if not job_ids or not (with_contents or any(webhook.tags for webhook in webhooks)):
            return {}
        with self._database.autocommit() as connection:
            return deliveries.about_jobs(connection, job_ids, with_contents=with_contents)


def _start(
    connection: Connection, ids: Collection[int], webhooks: Mapping[int, Webhook]
) -> tuple[Creates, set[int]]:
    """Create jobs of what waits; and the webhooks that got some."""
    waiting = deliveries.waiting(connection, ids, most=JOBS_MAX)
    return start(connection, waiting, webhooks), {one.subscription_id for one in waiting}


def _number_of(event: Event) -> int:
    """The event's own number; its id is that of the place behind it."""
    return Cursor.from_text(event.id).after_id
