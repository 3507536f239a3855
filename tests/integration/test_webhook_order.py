"""Deliveries by real workers: each one arrives, in order where that is wanted, whatever fails between."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from goqueue.actors.deliver_webhook import deliver_webhook
from goqueue.dev.embedded import EmbeddedPostgres, EmbeddedValkey
from goqueue.dev.fakes.http_server import FakeAnswer, FakeRequest, HttpServer
from goqueue.instance import default
from goqueue.scheduler.service import run_loop
from goqueue.webhooks import retry_rules
from goqueue.webhooks.delivery_log_rows import DeliveryFilter
from goqueue.webhooks.filters import DELIVERY_QUEUE, DELIVERY_TYPE
from goqueue.webhooks.retry_rules import RETRIES
from goqueue.webhooks.service import WebhookFeeder
from tests.support.engine import Engine, running_engine
from tests.support.factories import JobFactory
from tests.support.waiting import wait_until


class Moody(HttpServer):
    """A receiver that refuses every third call, and each delivery once at least."""

    def __init__(self) -> None:
        super().__init__()
        self.accepted: list[int] = []
        self.calls = Counter[str]()

    def answer(self, request: FakeRequest) -> FakeAnswer:
        """Refuse it, or keep which job it was about."""
        with self.lock:
            self.calls[request.headers["webhook-id"]] += 1
            if self.calls[request.headers["webhook-id"]] == 1 or self.calls.total() % 3 == 0:
                return FakeAnswer(503)
            self.accepted.append(json.loads(request.body)["data"]["job_id"])
            return FakeAnswer()


def declare() -> None:
    """The type that delivers, on the broker of the tests."""
    goqueue = default()
    goqueue.actor(queue=DELIVERY_QUEUE, name=DELIVERY_TYPE, max_retries=RETRIES)(
        deliver_webhook.fn.function  # type: ignore[attr-defined]
    )


@pytest.fixture(scope="module")
def engine(postgres: EmbeddedPostgres, valkey: EmbeddedValkey) -> Iterator[Engine]:
    """An engine whose workers deliver to this machine, soon again where they fail."""
    with running_engine(
        postgres,
        valkey,
        "webhook_order",
        declare,
        webhook_allow_networks=("127.0.0.0/8",),
        webhook_interval_seconds=0.02,
    ) as running:
        yield running


@pytest.fixture
def feeding(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A feeder that goes round and round, and waits between attempts that no test has to wait for."""
    monkeypatch.setattr(retry_rules, "WAITS_SECONDS", (0.02,) * RETRIES)
    stopping = threading.Event()
    feeder = WebhookFeeder(engine.settings, engine.broker.database, stopping.wait)
    thread = threading.Thread(target=run_loop, args=(feeder, stopping))
    thread.start()
    yield
    stopping.set()
    thread.join()


@pytest.mark.usefixtures("feeding")
def test_events_arrive_in_order(engine: Engine) -> None:
    """One after the other, however often each is refused, and once each as the receiver counts by the id."""
    webhooks = default().webhooks
    make_job = JobFactory(engine.broker.database)
    with Moody() as receiver:
        webhooks.create("shop", receiver.url, events=["job.created"], ordered=True)
        ids = [make_job().id for _ in range(8)]
        delivered = DeliveryFilter(state="delivered")
        wait_until(lambda: len(webhooks.deliveries("shop", delivered)) == len(ids), what="all to arrive")
    assert receiver.accepted == ids
    assert len(receiver.calls) == len(ids)
    assert min(receiver.calls.values()) >= 2
