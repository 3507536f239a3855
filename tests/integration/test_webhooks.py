"""Webhooks: who is told of which events, once each, and what is written down of it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook as Verifier
from standardwebhooks import WebhookVerificationError

from goqueue import failpoints
from goqueue.actors.delivery_call import deliver, headers_of
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.dev.fakes.http_server import FakeAnswer, FakeRequest, HttpServer
from goqueue.dev.fakes.webhook_receiver import make_secret
from goqueue.engine.transitions.cancel import cancel
from goqueue.errors import (
    Discard,
    InvalidJobError,
    RetryAfter,
    WebhookConflictError,
    WebhookDeliveryNotFoundError,
    WebhookNotFoundError,
)
from goqueue.events import subscription_rows as listening
from goqueue.events.event import EventKind
from goqueue.events.feed import EventFeed
from goqueue.failpoints import FailpointError
from goqueue.instance import GoQueue
from goqueue.scheduler.cleaner import Cleaner
from goqueue.webhooks import delivery_rows, service
from goqueue.webhooks.delivery_log_rows import DeliveryFilter
from goqueue.webhooks.delivery_rows import Delivery, DeliveryState
from goqueue.webhooks.filters import DELIVERY_QUEUE, DELIVERY_TYPE
from goqueue.webhooks.retry_rules import RETRIES
from goqueue.webhooks.service import WebhookFeeder
from goqueue.webhooks.webhooks import Webhooks
from tests.support.factories import JobFactory, set_status
from tests.support.shared_database import emptied_database, module_settings

module_settings = module_settings  # noqa: PLW0127  (a fixture)
database = emptied_database

EVERYTHING = DeliveryFilter()

#: Addresses that no receiver has, in every way to write them.
INSIDE = (
    "http://10.0.0.1/hook",
    "http://[::1]/hook",
    "http://[::ffff:10.0.0.1]/hook",
    "http://169.254.169.254/latest/meta-data",
    "http://0x0a000001/",
    "http://10.1/",
    "http://localhost:8000/",
)


class Receiver(HttpServer):
    """A receiver that keeps what it is sent, and answers as a test says."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[FakeRequest] = []
        self.status = 200
        self.answer_headers: dict[str, str] = {}
        self.text = b"{}"

    def answer(self, request: FakeRequest) -> FakeAnswer:
        """Keep the request."""
        with self.lock:
            self.requests.append(request)
            return FakeAnswer(self.status, self.text, self.answer_headers)

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """What came, in its order."""
        return [json.loads(request.body) for request in self.requests]


class Desk:
    """A GoQueue whose webhooks a test tells and delivers by hand.

    Attributes:
        woken: how often the dispatcher was.
    """

    def __init__(self, settings: Settings, database: Database, make_job: JobFactory, url: str) -> None:
        self.settings = settings
        self.database = database
        self.goqueue = GoQueue(settings, database=database)
        self.webhooks: Webhooks = self.goqueue.webhooks
        self.make_job = make_job
        self.url = url
        self.woken = 0
        self.feeder = WebhookFeeder(settings, database, lambda _: None, self._wake)

    def _wake(self) -> None:
        self.woken += 1

    def subscribe(self, name: str = "shop", **options: Any) -> str:
        """Make a webhook; its secret."""
        return self.webhooks.create(name, self.url, **options).secret

    def deliveries(self, name: str = "shop") -> list[Delivery]:
        """What a webhook was told, the oldest first."""
        return self.webhooks.deliveries(name, EVERYTHING)[::-1]

    def kinds(self, name: str = "shop") -> list[str]:
        """The kinds of what a webhook was told."""
        return [one.kind for one in self.deliveries(name)]

    def body(self, delivery: Delivery, name: str = "shop") -> dict[str, Any]:
        """The body of a delivery."""
        document: dict[str, Any] = json.loads(self.webhooks.delivery(name, delivery.id).delivery.body or "")
        return document

    def deliver(
        self, delivery: Delivery, attempt: int = 1, settings: Settings | None = None
    ) -> dict[str, Any]:
        """One attempt, as its job makes it."""
        assert delivery.job_id is not None
        return deliver(
            delivery.id,
            job_id=delivery.job_id,
            attempt=attempt,
            max_retries=RETRIES,
            settings=settings or self.settings,
            database=self.database,
        )

    def pending(self, name: str = "shop") -> list[Delivery]:
        """What has a job, the oldest first."""
        return [one for one in self.deliveries(name) if one.state == DeliveryState.PENDING]

    def run(self, sql: str, **parameters: Any) -> None:
        """Run a statement."""
        with self.database.autocommit() as connection:
            connection.exec_driver_sql(sql, parameters)

    def number(self, sql: str, **parameters: Any) -> int:
        """The number that a query answers."""
        with self.database.autocommit() as connection:
            return int(connection.exec_driver_sql(sql, parameters).scalar_one())


@pytest.fixture
def settings(module_settings: Settings) -> Settings:
    """Settings under which the receiver of the tests may be called."""
    return module_settings.model_copy(update={"webhook_allow_networks": ("127.0.0.0/8",)})


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A running receiver."""
    with Receiver() as running:
        yield running


@pytest.fixture
def desk(settings: Settings, database: Database, make_job: JobFactory, receiver: Receiver) -> Desk:
    """A GoQueue with webhooks."""
    return Desk(settings, database, make_job, f"{receiver.url}/hook")


@pytest.fixture
def armed() -> Iterator[Callable[[str], None]]:
    """Arms failpoints until the end of the test."""
    yield failpoints.configure
    failpoints.configure("")


def test_an_event_is_delivered_signed(desk: Desk, receiver: Receiver) -> None:
    """Type, time and data arrive with the headers of the webhook, and the official package verifies them."""
    secret = desk.subscribe(headers={"X-Tenant": "acme"})
    job = desk.make_job(queue="mail", type="send_email")
    counts = desk.feeder.run_once()
    assert (counts["events"], counts["jobs"], desk.woken) == (1, 1, 1)
    (pending,) = desk.pending()
    assert desk.deliver(pending) == {"status": 200}
    (request,) = receiver.requests
    verified = Verifier(secret).verify(request.body, request.headers)
    assert verified == receiver.bodies[0]
    assert verified["type"] == EventKind.JOB_CREATED
    assert datetime.fromisoformat(verified["timestamp"]) <= datetime.now(UTC)
    assert verified["data"] | {"job_id": job.id, "queue": "mail", "type": "send_email"} == verified["data"]
    assert "payload" not in verified["data"]
    token = desk.webhooks.get("shop").token
    assert request.headers["webhook-id"] == f"msg_{token}_{pending.id}"
    assert (request.headers["x-tenant"], request.path) == ("acme", "/hook")
    with pytest.raises(WebhookVerificationError):
        Verifier(make_secret()).verify(request.body, request.headers)
    details = desk.webhooks.delivery("shop", pending.id)
    assert (details.delivery.state, details.delivery.attempts) == ("delivered", 1)
    (call,) = details.calls
    assert (call.status, call.answer, call.error, call.job_id) == (200, "{}", None, pending.job_id)


def test_nothing_is_told_of_what_was_before(desk: Desk) -> None:
    """A webhook is told of what happens after it was made, and of that from the first moment on."""
    desk.make_job()
    desk.subscribe()
    after = desk.make_job()
    desk.feeder.run_once()
    assert [one.about_job_id for one in desk.deliveries()] == [after.id]


def test_a_filter_chooses(desk: Desk) -> None:
    """Each filter that a webhook has must fit; of the values of one, any."""
    told: dict[str, dict[str, Any]] = {
        "everything": {},
        "kind": {"events": ["job.created"]},
        "all-of-jobs": {"events": ["job.*"]},
        "queue": {"queues": ["default", "mail"]},
        "type": {"types": ["send_email"]},
        "tag": {"tags": ["red", "blue"]},
    }
    others: dict[str, dict[str, Any]] = {
        "other-kinds": {"events": ["job.failed", "queue.*"]},
        "other-queue": {"queues": ["default"]},
        "other-type": {"types": ["noop"]},
        "other-tag": {"tags": ["green"]},
        "one-of-two": {"queues": ["mail"], "tags": ["green"]},
    }
    for name, chosen in (told | others).items():
        desk.subscribe(name, **chosen)
    desk.make_job(queue="mail", type="send_email", tags=["blue", "white"])
    desk.feeder.run_once()
    assert {name for name in told | others if desk.deliveries(name)} == told.keys()


def test_contents_are_told_where_that_is_wanted(desk: Desk) -> None:
    """Payload, result and error of the job, as they are when the delivery is written."""
    desk.subscribe("with", with_contents=True, events=["job.created"])
    desk.subscribe("without", events=["job.created"])
    desk.make_job(payload={"to": "zoë"})
    desk.feeder.run_once()
    (told,) = desk.deliveries("with")
    assert desk.body(told, "with")["data"]["payload"]["to"] == "zoë"
    assert desk.body(told, "with")["data"]["error"] is None
    (bare,) = desk.deliveries("without")
    assert not {"payload", "result", "error"} & desk.body(bare, "without")["data"].keys()


def test_what_is_encrypted_or_redacted_is_not_told(desk: Desk) -> None:
    """The log of deliveries has nothing in clear that is encrypted at rest, and no redacted field."""
    desk.subscribe(with_contents=True, events=["job.created"])
    desk.database.contents.redacted = {"charge": frozenset({"card"})}
    desk.make_job(type="charge", payload={"card": "4111-secret", "amount": 5})
    desk.make_job(payload={"text": "secret"}, payload_key="k1")
    desk.feeder.run_once()
    charged, encrypted = desk.deliveries()
    told = desk.body(charged)["data"]["payload"]
    assert told["amount"] == 5
    assert "4111-secret" not in str(told)
    assert desk.body(encrypted)["data"]["payload"] is None


def test_deliveries_are_no_events_to_deliver(desk: Desk) -> None:
    """A job that delivers makes no delivery, however it goes: there would be no end."""
    desk.subscribe()
    desk.make_job()
    desk.feeder.run_once()
    assert len(desk.deliveries()) == 1
    (pending,) = desk.pending()
    assert pending.job_id is not None
    set_status(desk.database, pending.job_id, "completed")
    for _ in range(3):
        desk.feeder.run_once()
    assert len(desk.deliveries()) == 1
    assert desk.number("SELECT count(*) FROM jobs WHERE queue = %(queue)s", queue=DELIVERY_QUEUE) == 1


def test_webhooks_that_are_up_to_date_share_one_read(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were made at different moments stand at the same place after the first event."""
    reads: list[int] = []
    read = EventFeed.read
    for number in range(3):
        desk.subscribe(f"hook-{number}")
        desk.make_job()
    desk.feeder.run_once()
    monkeypatch.setattr(service, "IDLE_SECONDS", 0.0)
    desk.feeder.run_once()

    def reading(*arguments: Any, **options: Any) -> Any:
        reads.append(1)
        return read(*arguments, **options)

    monkeypatch.setattr(EventFeed, "read", reading)
    desk.make_job()
    desk.feeder.run_once()
    assert len(reads) == 1
    assert [len(desk.deliveries(f"hook-{number}")) for number in range(3)] == [4, 3, 2]


def test_a_backlog_is_read_in_batches(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each event comes once and in its order, however many batches it takes."""
    monkeypatch.setattr(service, "BATCH", 3)
    desk.subscribe(events=["job.created"])
    ids = [desk.make_job().id for _ in range(8)]
    rounds = 0
    while len(desk.deliveries()) < len(ids):
        desk.feeder.run_once()
        rounds += 1
    assert rounds == 3
    assert [one.about_job_id for one in desk.deliveries()] == ids


@pytest.mark.parametrize("point", ["before_webhook_commit", "after_webhook_commit"])
def test_a_death_loses_and_doubles_nothing(desk: Desk, armed: Callable[[str], None], point: str) -> None:
    """Deliveries, their jobs and the cursor are written together, or not at all."""
    desk.subscribe(events=["job.created"])
    ids = [desk.make_job().id for _ in range(3)]
    armed(f"{point}:raise")
    with pytest.raises(FailpointError):
        desk.feeder.run_once()
    armed("")
    assert len(desk.deliveries()) == (0 if point.startswith("before") else 3)
    ids.append(desk.make_job().id)
    desk.feeder.run_once()
    desk.feeder.run_once()
    assert [one.about_job_id for one in desk.deliveries()] == ids
    assert len({one.job_id for one in desk.pending()}) == 4
    assert desk.number("SELECT count(*) FROM jobs WHERE type = %(type)s", type=DELIVERY_TYPE) == 4


def test_two_feeders_deliver_once(desk: Desk, database: Database) -> None:
    """Whoever comes second finds the cursor moved: one that lost its leadership does no harm."""
    desk.subscribe(events=["job.created"])
    for _ in range(20):
        desk.make_job()
    feeders = [WebhookFeeder(desk.settings, database, lambda _: None) for _ in range(4)]
    threads = [threading.Thread(target=feeder.run_once) for feeder in feeders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    desk.feeder.run_once()
    assert len(desk.deliveries()) == 20
    assert desk.number("SELECT count(*) FROM jobs WHERE type = %(type)s", type=DELIVERY_TYPE) == 20


def test_a_refusal_is_retried_and_written_down(desk: Desk, receiver: Receiver) -> None:
    """Every answer but 2xx and 410 fails the attempt, with the wait of the schedule or what is asked for."""
    desk.subscribe()
    desk.make_job()
    desk.feeder.run_once()
    receiver.status, receiver.text = 503, b"x" * 5_000
    (pending,) = desk.pending()
    waits = []
    for attempt in (1, 2):
        with pytest.raises(RetryAfter, match="503") as caught:
            desk.deliver(pending, attempt)
        waits.append(caught.value.seconds)
    assert 5 <= waits[0] <= 5.5
    assert 300 <= waits[1] <= 330
    receiver.answer_headers = {"Retry-After": "900"}
    with pytest.raises(RetryAfter) as caught:
        desk.deliver(pending, 1)
    assert caught.value.seconds == 900
    details = desk.webhooks.delivery("shop", pending.id)
    assert details.delivery.state == "pending"
    assert [(call.status, len(call.answer or ""), call.error) for call in details.calls] == [
        (503, 1024, "the receiver answered 503")
    ] * 3
    assert desk.webhooks.get("shop").failing_since is not None
    receiver.status = 204
    desk.deliver(pending, 3)
    assert desk.webhooks.get("shop").failing_since is None
    ids = {request.headers["webhook-id"] for request in receiver.requests}
    assert len(ids) == 1
    assert desk.deliver(pending, 4) == {"delivered_before": True}
    assert len(receiver.requests) == 4


def test_the_last_attempt_fails_the_delivery(desk: Desk, receiver: Receiver) -> None:
    """After three days of retries the delivery has failed, and so has its job."""
    desk.subscribe()
    desk.make_job()
    desk.feeder.run_once()
    receiver.status = 500
    (pending,) = desk.pending()
    with pytest.raises(Discard, match="500"):
        desk.deliver(pending, RETRIES + 1)
    assert [one.state for one in desk.deliveries()] == ["failed"]


def test_gone_disables_at_once(desk: Desk, receiver: Receiver) -> None:
    """A 410 ends it, with an entry of the audit log, and an event that other webhooks are told of."""
    desk.subscribe()
    desk.subscribe("watch", events=["webhook.*"])
    desk.make_job()
    desk.make_job()
    desk.feeder.run_once()
    receiver.status = 410
    first, second = desk.pending()
    with pytest.raises(Discard, match="410"):
        desk.deliver(first)
    webhook = desk.webhooks.get("shop")
    assert (webhook.state, webhook.disabled_reason) == (
        "disabled",
        "the receiver answered 410: it is gone for good",
    )
    desk.feeder.run_once()
    (told,) = desk.deliveries("watch")
    assert desk.body(told, "watch")["type"] == "webhook.disabled"
    assert desk.body(told, "watch")["data"]["webhook"] == "shop"
    # What was on its way waits until somebody enables it again, and nobody is called.
    assert desk.deliver(second) == {"held_back": webhook.disabled_reason}
    assert len(receiver.requests) == 1
    assert [one.state for one in desk.deliveries()] == ["failed", "waiting"]
    with desk.database.autocommit() as connection:
        row = connection.exec_driver_sql(
            "SELECT actor_kind, actor, reason FROM audit_log WHERE action = 'webhook.disable' "
            "AND target = 'webhook shop' ORDER BY id DESC LIMIT 1"
        ).one()
    assert tuple(row) == ("system", "webhooks", webhook.disabled_reason)


def test_days_of_failures_disable(desk: Desk, receiver: Receiver) -> None:
    """Only where every attempt of that time failed; and a ping does not count."""
    desk.subscribe()
    desk.make_job()
    desk.make_job()
    desk.feeder.run_once()
    receiver.status = 500
    first, second = desk.pending()
    with pytest.raises(RetryAfter):
        desk.deliver(first)
    assert desk.webhooks.get("shop").is_active
    desk.run("UPDATE webhook_subscriptions SET failing_since = now() - interval '4 days'")
    with pytest.raises(RetryAfter):
        desk.deliver(second)
    assert desk.webhooks.get("shop").is_active
    desk.run("UPDATE webhook_subscriptions SET failing_since = now() - interval '6 days'")
    ping = desk.webhooks.ping("shop")
    with pytest.raises(RetryAfter):
        desk.deliver(ping)
    assert desk.webhooks.get("shop").is_active
    with pytest.raises(RetryAfter):
        desk.deliver(first, 2)
    webhook = desk.webhooks.get("shop")
    assert webhook.state == "disabled"
    assert webhook.disabled_reason is not None
    assert "for 5 days" in webhook.disabled_reason


def test_enabling_goes_on_where_it_stood(desk: Desk, receiver: Receiver) -> None:
    """What happened while it was disabled is delivered, as well as what was on its way."""
    desk.subscribe(events=["job.created"])
    first = desk.make_job()
    desk.feeder.run_once()
    (pending,) = desk.pending()
    desk.webhooks.disable("shop", by="ops")
    assert desk.webhooks.get("shop").disabled_reason == "disabled by ops"
    assert desk.deliver(pending) == {"held_back": "disabled by ops"}
    second = desk.make_job()
    desk.feeder.run_once()
    assert [one.state for one in desk.deliveries()] == ["waiting"]
    desk.webhooks.enable("shop")
    desk.feeder.run_once()
    assert [one.about_job_id for one in desk.pending()] == [first.id, second.id]
    for one in desk.pending():
        desk.deliver(one)
    assert [body["data"]["job_id"] for body in receiver.bodies] == [first.id, second.id]
    assert desk.kinds() == ["job.created", "job.created"]


def test_a_gap_is_told(desk: Desk, receiver: Receiver) -> None:
    """Where events are gone, or were not written, the receiver is told between which moments."""
    desk.subscribe(events=["job.completed"])
    before = desk.webhooks.get("shop").cursor_at
    with desk.database.transaction() as connection:
        assert listening.stop_writing(connection, after_seconds=-100_000)
    desk.make_job()
    desk.feeder.run_once()
    assert desk.kinds() == ["webhook.gap"]
    webhook = desk.webhooks.get("shop")
    assert webhook.gap_since == before
    assert webhook.gap_until is not None
    (pending,) = desk.pending()
    desk.deliver(pending)
    (body,) = receiver.bodies
    assert body["type"] == "webhook.gap"
    assert datetime.fromisoformat(body["data"]["since"]) == before
    assert datetime.fromisoformat(body["data"]["until"]) == webhook.gap_until
    desk.feeder.run_once()
    assert desk.kinds() == ["webhook.gap"]


def test_no_gap_is_told_after_a_quiet_time(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cursor moves on while nothing happens: events of others that go are no gap of its own."""
    monkeypatch.setattr(service, "IDLE_SECONDS", 0.0)
    desk.subscribe(events=["job.failed"])
    desk.make_job()
    for _ in range(3):
        before = desk.webhooks.get("shop").cursor_at
        desk.feeder.run_once()
        assert desk.webhooks.get("shop").cursor_at > before
    assert desk.deliveries() == []


def test_events_are_written_while_a_webhook_is_active(desk: Desk) -> None:
    """The feeder listens for all webhooks, and for nobody where there is none."""
    lease = "SELECT count(*) FROM event_subscriptions WHERE name = 'webhooks' AND lease_until > now()"
    assert desk.feeder.run_once() == {"events": 0, "jobs": 0, "settled": 0}
    assert desk.number(lease) == 0
    desk.subscribe()
    assert desk.number(lease) == 1
    desk.run("DELETE FROM event_subscriptions")
    desk.feeder.run_once()
    assert desk.number(lease) == 1


def test_two_secrets_sign_while_one_is_rotated(desk: Desk, receiver: Receiver) -> None:
    """A receiver that knows either of them takes the call; after the overlap only the new one signs."""
    old = desk.subscribe()
    made = desk.webhooks.rotate("shop", overlap_seconds=3600)
    assert made.secret != old

    def call() -> FakeRequest:
        desk.make_job()
        desk.feeder.run_once()
        desk.deliver(desk.pending()[-1])
        return receiver.requests[-1]

    request = call()
    for secret in (old, made.secret):
        Verifier(secret).verify(request.body, request.headers)
    desk.run("UPDATE webhook_subscriptions SET previous_until = now() - interval '1 second'")
    request = call()
    Verifier(made.secret).verify(request.body, request.headers)
    with pytest.raises(WebhookVerificationError):
        Verifier(old).verify(request.body, request.headers)
    own = make_secret()
    assert desk.webhooks.rotate("shop", overlap_seconds=0, secret=own).secret == own
    request = call()
    Verifier(own).verify(request.body, request.headers)
    with pytest.raises(WebhookVerificationError):
        Verifier(made.secret).verify(request.body, request.headers)


def test_a_ping_is_delivered_to_a_disabled_webhook_as_well(desk: Desk, receiver: Receiver) -> None:
    """It is tried once, before anybody enables the webhook, and waits for nothing before it."""
    desk.subscribe(ordered=True)
    desk.webhooks.disable("shop")
    ping = desk.webhooks.ping("shop")
    assert desk.deliver(ping) == {"status": 200}
    assert receiver.bodies[0]["type"] == "webhook.ping"
    assert desk.number(
        "SELECT count(*) FROM jobs WHERE type = %(type)s AND concurrency_key IS NULL", type=DELIVERY_TYPE
    )


def test_one_delivery_is_delivered_again(desk: Desk, receiver: Receiver) -> None:
    """By another job, with the same id and body; not while it is under way."""
    desk.subscribe()
    desk.make_job()
    desk.feeder.run_once()
    (pending,) = desk.pending()
    with pytest.raises(WebhookConflictError, match="pending already"):
        desk.webhooks.redeliver("shop", pending.id)
    desk.deliver(pending)
    assert desk.webhooks.redeliver("shop", pending.id).state == "waiting"
    desk.feeder.run_once()
    (again,) = desk.pending()
    assert again.id == pending.id
    assert again.job_id != pending.job_id
    desk.deliver(again)
    first, second = receiver.requests
    assert first.body == second.body
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert desk.webhooks.delivery("shop", again.id).delivery.attempts == 2
    # The job of the time before is no longer its own.
    with pytest.raises(Discard, match="no longer"):
        desk.deliver(pending)


def test_a_range_is_delivered_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the state that is asked for, of events of that time, in their order, and never a ping."""
    monkeypatch.setattr("goqueue.webhooks.delivery_log.BATCH", 2)
    desk.subscribe(events=["job.created"])
    for _ in range(6):
        desk.make_job()
    desk.feeder.run_once()
    ids = [one.id for one in desk.pending()]
    desk.webhooks.ping("shop")
    desk.run(
        "UPDATE webhook_deliveries SET state = 'failed', finished_at = now(), "
        "created_at = created_at - interval '1 hour' * (10 - id + %(first)s)",
        first=ids[0],
    )
    desk.run("UPDATE webhook_deliveries SET state = 'delivered' WHERE id = %(id)s", id=ids[3])
    now = datetime.now(UTC)
    until = now - timedelta(hours=5.5)
    assert desk.webhooks.redeliver_range("shop", now - timedelta(hours=9.5), until) == 3
    desk.feeder.run_once()
    assert [one.id for one in desk.pending()] == [ids[1], ids[2], ids[4]]
    assert desk.webhooks.redeliver_range("shop", now - timedelta(days=1), state="delivered") == 1
    assert desk.webhooks.redeliver_range("shop", now - timedelta(days=1)) == 2
    for wrong in ({"state": "waiting"}, {"state": "lost"}, {"until": now - timedelta(days=2)}):
        with pytest.raises(InvalidJobError):
            desk.webhooks.redeliver_range("shop", now - timedelta(days=1), **wrong)


def test_no_more_jobs_than_a_receiver_can_take(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest waits for them as rows; and where too much waits, further events stay where they are."""
    monkeypatch.setattr(service, "JOBS_MAX", 2)
    monkeypatch.setattr(service, "BACKLOG_MAX", 3)
    monkeypatch.setattr(service, "REST_SECONDS", 0.0)
    desk.subscribe(events=["job.created"])
    for _ in range(6):
        desk.make_job()
    desk.feeder.run_once()
    assert [one.state for one in desk.deliveries()] == ["pending"] * 2 + ["waiting"] * 4
    last = desk.make_job()
    desk.feeder.run_once()
    assert len(desk.deliveries()) == 6
    for _ in range(3):
        for one in desk.pending():
            desk.deliver(one)
        desk.feeder.run_once()
    assert [one.about_job_id for one in desk.deliveries()][-1] == last.id
    assert len(desk.deliveries()) == 7


def test_a_receiver_that_is_down_costs_a_look_now_and_then(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a webhook has as many jobs as it may, its deliveries are left alone for a while."""
    looks: list[int] = []
    waiting = delivery_rows.waiting

    def looking(connection: Any, ids: Any, *, most: int) -> Any:
        looks.append(len(ids))
        return waiting(connection, ids, most=most)

    monkeypatch.setattr(service, "JOBS_MAX", 1)
    monkeypatch.setattr(service, "REST_SECONDS", 3_600.0)
    desk.subscribe(events=["job.created"])
    for _ in range(3):
        desk.make_job()
    desk.feeder.run_once()
    monkeypatch.setattr(delivery_rows, "waiting", looking)
    for _ in range(3):
        desk.feeder.run_once()
    assert looks == [1]
    assert [one.state for one in desk.deliveries()] == ["pending", "waiting", "waiting"]


def test_a_delivery_whose_job_ends_without_it_has_failed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancelled or deleted by somebody: it can be delivered again."""
    desk.subscribe(events=["job.created"])
    for _ in range(3):
        desk.make_job()
    desk.feeder.run_once()
    first, second, _third = desk.pending()
    assert first.job_id is not None
    with desk.database.autocommit() as connection:
        cancel(connection, [first.job_id])
    desk.run("DELETE FROM jobs WHERE id = %(id)s", id=second.job_id)
    monkeypatch.setattr(service, "GRACE_SECONDS", -1.0)
    monkeypatch.setattr(service, "RENEW_SECONDS", 0.0)
    assert desk.feeder.run_once()["settled"] == 2
    assert [one.state for one in desk.deliveries()] == ["failed", "failed", "pending"]


def test_a_deleted_webhook_leaves_nothing(desk: Desk, settings: Settings, receiver: Receiver) -> None:
    """Nothing is delivered any more, its name is free at once, and the cleaner deletes its rows."""
    desk.subscribe()
    desk.make_job()
    desk.feeder.run_once()
    (pending,) = desk.pending()
    desk.webhooks.delete("shop")
    with pytest.raises(WebhookNotFoundError):
        desk.webhooks.get("shop")
    with pytest.raises(Discard):
        desk.deliver(pending)
    assert receiver.requests == []
    desk.subscribe()
    assert desk.deliveries() == []
    cleaner = Cleaner(settings, desk.database, lambda _: None)
    cleaner.run_once()
    assert desk.number("SELECT count(*) FROM webhook_deliveries") == 0
    assert desk.number("SELECT count(*) FROM webhook_subscriptions") == 1
    assert desk.number("SELECT count(*) FROM webhook_subscriptions WHERE secret = ''") == 0


def test_old_deliveries_go_with_their_calls(desk: Desk, settings: Settings) -> None:
    """Once they have ended; what is still to be delivered stays, however old."""
    desk.subscribe(events=["job.created"])
    for _ in range(2):
        desk.make_job()
    desk.feeder.run_once()
    desk.deliver(desk.pending()[0])
    cleaner = Cleaner(settings, desk.database, lambda _: None)
    cleaner.run_once()
    assert len(desk.deliveries()) == 2
    desk.run("UPDATE webhook_deliveries SET created_at = now() - interval '15 days'")
    cleaner.run_once()
    assert [one.state for one in desk.deliveries()] == ["pending"]
    assert desk.number("SELECT count(*) FROM webhook_attempts") == 0


def test_addresses_inside_are_refused_before_the_first_call(
    module_settings: Settings, database: Database
) -> None:
    """Numbers in any notation, and names that lead there: when it is made, and when it is changed."""
    webhooks = GoQueue(module_settings, database=database).webhooks
    webhooks.create("outside", "https://93.184.216.34/")
    for url in INSIDE:
        with pytest.raises(InvalidJobError, match="not global"):
            webhooks.create("inside", url)
        with pytest.raises(InvalidJobError, match="not global"):
            webhooks.change("outside", url=url)


def test_a_name_that_leads_inside_by_then_is_refused_at_the_call(
    desk: Desk, receiver: Receiver, module_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: what counts is the address that is connected to, and nothing is sent to it."""
    monkeypatch.setattr("goqueue.webhooks.addresses.look_up", lambda *_: ["93.184.216.34"])
    desk.webhooks.create("shop", receiver.url.replace("127.0.0.1", "localhost"))
    desk.make_job()
    desk.feeder.run_once()
    (pending,) = desk.pending()
    strict = module_settings.model_copy(update={"webhook_allow_networks": ()})
    with pytest.raises(RetryAfter, match="not global"):
        desk.deliver(pending, settings=strict)
    assert receiver.requests == []
    (call,) = desk.webhooks.delivery("shop", pending.id).calls
    assert (call.status, call.answer) == (None, None)
    assert call.error is not None
    assert "not global" in call.error


def test_names_are_taken_once(desk: Desk) -> None:
    """A second webhook of a name is refused; and what is not there is not found."""
    desk.subscribe()
    with pytest.raises(WebhookConflictError, match="already"):
        desk.subscribe()
    with pytest.raises(WebhookNotFoundError):
        desk.webhooks.ping("other")
    with pytest.raises(WebhookDeliveryNotFoundError):
        desk.webhooks.delivery("shop", 1)


def test_headers_keep_their_present_values(desk: Desk) -> None:
    """Nobody is shown them again, so a change may keep one without knowing it."""
    desk.subscribe(headers={"Authorization": "Bearer x", "X-Old": "1"})
    webhook = desk.webhooks.change("shop", headers={"Authorization": "***", "X-New": "2"})
    assert webhook.headers == {"Authorization": "Bearer x", "X-New": "2"}
    assert "Bearer x" not in repr(webhook)
    assert webhook.secret not in repr(webhook)
    with pytest.raises(InvalidJobError, match="no present value"):
        desk.webhooks.change("shop", headers={"X-Other": "***"})


def test_changes_count_from_then_on(desk: Desk, receiver: Receiver) -> None:
    """A filter that is taken away, another URL for what waits already."""
    desk.subscribe(events=["job.failed"], queues=["mail"])
    webhook = desk.webhooks.change("shop", events=None, url=f"{receiver.url}/other")
    assert (webhook.events, webhook.queues, webhook.url) == (None, ("mail",), f"{receiver.url}/other")
    desk.make_job(queue="mail")
    desk.feeder.run_once()
    desk.deliver(desk.pending()[0])
    assert receiver.requests[0].path == "/other"


def test_jobs_that_others_make_deliver_nothing(desk: Desk, receiver: Receiver) -> None:
    """A job of the type with somebody else's delivery is discarded."""
    desk.subscribe()
    desk.make_job()
    desk.feeder.run_once()
    (pending,) = desk.pending()
    with pytest.raises(Discard):
        deliver(
            pending.id,
            job_id=(pending.job_id or 0) + 1_000,
            attempt=1,
            max_retries=0,
            settings=desk.settings,
            database=desk.database,
        )
    assert receiver.requests == []


def test_the_signature_is_of_the_very_bytes(desk: Desk) -> None:
    """The body is signed as it is sent, and the webhook's headers cannot replace ours."""
    desk.subscribe(headers={"user-agent": "shop"})
    desk.make_job()
    desk.feeder.run_once()
    (pending,) = desk.pending()
    details = desk.webhooks.delivery("shop", pending.id)
    content = (details.delivery.body or "").encode()
    headers = headers_of(desk.webhooks.get("shop"), details.delivery, content, now=datetime.now(UTC))
    assert isinstance(headers, httpx.Headers)
    Verifier(desk.webhooks.get("shop").secret).verify(content, dict(headers))
    assert headers["user-agent"] == "shop"
    with pytest.raises(WebhookVerificationError):
        Verifier(desk.webhooks.get("shop").secret).verify(content + b" ", dict(headers))
