"""Redacted fields: nobody but the handler sees their values, whatever they read, and with whatever key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from falcon import testing
from pydantic import BaseModel

import goqueue
from goqueue.api.app import create_app
from goqueue.dashboard.site import DASHBOARD
from goqueue.db.database import Database
from goqueue.dev.embedded import EmbeddedPostgres, EmbeddedValkey
from goqueue.errors import InvalidJobError
from goqueue.instance import default
from goqueue.jobs import JobStatus
from tests.support.engine import Engine, running_engine
from tests.support.shared_database import TESTED_HOST
from tests.support.waiting import wait_until

QUEUE = "payments"
CARD, TOKEN = "4111222233334444", 987654
PAYLOAD = {"Card": {"number": CARD}, "amount": 7, "items": [{"TOKEN": TOKEN, "name": "shoe"}]}
SHOWN = {"Card": "[redacted]", "amount": 7, "items": [{"TOKEN": "[redacted]", "name": "shoe"}]}

#: What handlers were given.
seen: list[Any] = []


class Payment(BaseModel):
    """The payload of a batch type."""

    card: str


def declare() -> None:
    """Declare the job types of these tests."""

    @goqueue.actor(max_retries=0, queue=QUEUE, redact=("card", "token"), aliases=("charge",))
    def pay(Card: dict[str, str], amount: int, items: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803  (a field in upper case)
        seen.append((Card, items))
        job = goqueue.current_job()
        job.log(f"charging {Card['number']}")
        job.stream(f"piece of {Card['number']}")
        job.progress(0.5, f"with {items[0]['TOKEN']}")
        if amount == 0:
            raise ValueError(f"declined {Card['number']} by {items[0]['TOKEN']}")
        return {"token": CARD, "amount": amount}

    @goqueue.actor(max_retries=0, queue=QUEUE, redact=("card",), batch=goqueue.Batch(size=3, wait_ms=500))
    def pay_together(batch: list[Payment]) -> None:
        raise ValueError(f"declined {[payment.card for payment in batch]}")

    @goqueue.actor(max_retries=0, queue=QUEUE)
    def told(message: Any):  # type: ignore[no-untyped-def]  # noqa: ANN202  (its argument is that of a plain Dramatiq call)
        """A callback."""

    @goqueue.actor(max_retries=0, queue=QUEUE)
    def ship(card: str, address: dict[str, str]) -> None:
        """A type that redacts nothing."""


@pytest.fixture(scope="module")
def engine(postgres: EmbeddedPostgres, valkey: EmbeddedValkey) -> Iterator[Engine]:
    """An engine that all tests of this module share."""
    with running_engine(postgres, valkey, "redaction", declare) as engine:
        yield engine


@pytest.fixture
def client(engine: Engine) -> Iterator[testing.TestClient]:
    """A client of the API and the dashboard who may read everything."""
    settings = engine.settings.model_copy(update={"allowed_hosts": (TESTED_HOST,)})
    database = Database(settings)
    yield testing.TestClient(
        create_app(settings, database=database, runway=engine.broker.runway, site=DASHBOARD)
    )
    database.close()


def pay(engine: Engine, **settings: Any) -> int:
    """A payment."""
    return goqueue.enqueue(engine.broker.actors["pay"], PAYLOAD, **settings)


def test_a_handler_sees_what_no_answer_shows(
    engine: Engine, client: testing.TestClient, capsys: pytest.CaptureFixture[str]
) -> None:
    """Payload, result, errors, log, progress and versions have markers; the handler has the values."""
    done = pay(engine)
    failed = goqueue.enqueue(engine.broker.actors["pay"], PAYLOAD | {"amount": 0})
    waiting = pay(engine, delay_seconds=3600)
    assert (
        client.simulate_patch(f"/jobs/{waiting}", json={"payload": SHOWN | {"amount": 8}}).status_code == 200
    )
    engine.wait_for(done)
    engine.wait_for(failed, JobStatus.FAILED)
    assert seen == [(PAYLOAD["Card"], PAYLOAD["items"])] * 2

    document = client.simulate_get(f"/jobs/{done}").json
    assert (document["payload"], document["result"]) == (SHOWN, {"token": "[redacted]", "amount": 7})
    declined = "ValueError: declined [redacted] by [redacted]"
    assert client.simulate_get(f"/jobs/{failed}").json["error"] == declined
    assert client.simulate_get(f"/jobs/{done}/logs").json[0]["text"] == "charging [redacted]"
    assert client.simulate_get(f"/jobs/{done}/progress").json["message"] == "with [redacted]"
    answers = [
        client.simulate_get(f"/jobs/{job_id}{path}")
        for job_id in (done, failed, waiting)
        for path in ("", "/attempts", "/logs", "/versions", "/explain")
    ]
    answers += [
        client.simulate_get(path) for path in ("/jobs?status=failed", "/failures", f"/jobs?queue={QUEUE}")
    ]
    assert {answer.status_code for answer in answers} == {200}
    assert [answer.text for answer in answers if CARD in answer.text or str(TOKEN) in answer.text] == []
    assert CARD not in capsys.readouterr().err
    assert engine.rows("SELECT text FROM job_output WHERE job_id = %(id)s", id=done) == [
        ("piece of [redacted]",)
    ]
    assert engine.rows("SELECT error FROM jobs WHERE id = %(id)s", id=failed) == [(declined,)]


@pytest.mark.usefixtures("engine")
def test_what_creates_answer_has_markers(client: testing.TestClient) -> None:
    """Also the answer to the create itself, a repeated one, a batch's jobs, and an alias's job."""
    job = {"queue": QUEUE, "type": "charge", "payload": PAYLOAD}
    for _ in range(2):
        answer = client.simulate_post("/jobs/create", json=job, headers={"Idempotency-Key": "twice"})
        assert (answer.status_code, answer.json["payload"]) == (201, SHOWN)


def test_an_edit_keeps_the_values_that_it_was_not_shown(engine: Engine, client: testing.TestClient) -> None:
    """A marker that is sent back stands for the stored value; another value takes its place."""
    job_id = pay(engine, delay_seconds=3600)
    changed = SHOWN | {"amount": 9, "items": [{"TOKEN": 123456, "name": "hat"}]}
    answer = client.simulate_patch(f"/jobs/{job_id}", json={"payload": changed})
    assert answer.json["payload"] == SHOWN | {"amount": 9, "items": [{"TOKEN": "[redacted]", "name": "hat"}]}
    ((kept,),) = engine.rows("SELECT payload FROM jobs WHERE id = %(id)s", id=job_id)
    assert kept == PAYLOAD | {"amount": 9, "items": [{"TOKEN": 123456, "name": "hat"}]}
    before, after = default().versions(job_id)
    assert (before.version.payload, after.version.payload["amount"]) == (SHOWN, 9)
    assert all(CARD not in str(change) for change in after.changes or ())


def test_a_retry_keeps_the_values_that_it_was_not_shown(engine: Engine, client: testing.TestClient) -> None:
    """An edited retry of a failed job runs with the values that nobody saw."""
    job_id = goqueue.enqueue(engine.broker.actors["pay"], PAYLOAD | {"amount": 0})
    engine.wait_for(job_id, JobStatus.FAILED)
    assert client.simulate_post(f"/jobs/{job_id}/retry", json={"payload": SHOWN}).status_code == 200
    engine.wait_for(job_id)
    assert seen[-1] == (PAYLOAD["Card"], PAYLOAD["items"])


def test_a_marker_without_a_value_behind_it_is_refused(engine: Engine, client: testing.TestClient) -> None:
    """Nobody writes the marker over a value, or creates a job with it."""
    answer = client.simulate_post("/jobs/create", json={"queue": QUEUE, "type": "pay", "payload": SHOWN})
    expected = "expected a value: [redacted] stands for one that is not shown"
    assert (answer.status_code, answer.json["fields"]) == (400, {"payload.Card": expected})
    job_id = pay(engine, delay_seconds=3600)
    more = SHOWN | {"items": [*SHOWN["items"], {"TOKEN": "[redacted]"}]}  # type: ignore[misc]
    answer = client.simulate_patch(f"/jobs/{job_id}", json={"payload": more})
    assert answer.json["fields"] == {"payload.items[1].TOKEN": "expected a value: none is stored here"}
    with pytest.raises(InvalidJobError):
        goqueue.enqueue(engine.broker.actors["pay"], SHOWN)


def test_a_schedule_keeps_the_values_that_it_was_not_shown(
    engine: Engine, client: testing.TestClient
) -> None:
    """A schedule that is defined anew with the markers that were shown has its values."""
    schedule = {"cron": "0 2 * * *", "queue": QUEUE, "type": "pay", "payload": PAYLOAD}
    assert client.simulate_put("/schedules/monthly", json=schedule).json["payload"] == SHOWN
    again = schedule | {"cron": "0 3 * * *", "payload": SHOWN}
    assert client.simulate_put("/schedules/monthly", json=again).json["payload"] == SHOWN
    assert engine.rows("SELECT payload FROM schedules WHERE name = 'monthly'") == [(PAYLOAD,)]
    run = client.simulate_post("/schedules/monthly/run")
    assert run.json["payload"] == SHOWN
    engine.wait_for(run.json["id"])
    for page in ("/dashboard/schedules/monthly", "/dashboard/schedules/edit?name=monthly"):
        assert CARD not in client.simulate_get(page).text
    client.simulate_delete("/schedules/monthly")


def test_no_page_shows_a_redacted_value(engine: Engine, client: testing.TestClient) -> None:
    """Lists, the page of a job, its files, its forms and those of failures have markers."""
    done = pay(engine)
    failed = goqueue.enqueue(engine.broker.actors["pay"], PAYLOAD | {"amount": 0})
    waiting = pay(engine, delay_seconds=3600)
    engine.wait_for(done)
    job = engine.wait_for(failed, JobStatus.FAILED)
    # Longer than what a list shows of a payload.
    goqueue.enqueue(engine.broker.actors["pay"], PAYLOAD | {"items": [{"name": "shoe" * 99, "token": CARD}]})
    places = [
        f"/jobs?queue={QUEUE}",
        f"/failures/{job.fingerprint}",
        "/failures",
        *(f"/jobs/{job_id}" for job_id in (done, failed, waiting)),
        *(f"/jobs/{done}/files/{name}" for name in FILES),
        f"/jobs/{waiting}/edit",
    ]
    for place in places:
        page = client.simulate_get(f"/dashboard{place}")
        assert page.status_code == 200, place
        assert CARD not in page.text, place
        assert str(TOKEN) not in page.text, place
    assert "[redacted]" in client.simulate_get(f"/dashboard/jobs/{done}/files/payload.json").text


def test_a_callback_is_told_markers(engine: Engine) -> None:
    """The message that a callback gets is the payload of a job of another type, which may show it."""
    pay_actor = engine.broker.actors["pay"]
    pay_actor.send_with_options(kwargs=PAYLOAD | {"amount": 0}, on_failure="told")
    told = "SELECT payload::text FROM jobs WHERE type = 'told'"
    wait_until(lambda: engine.rows(told), what="the callback")
    assert CARD not in engine.rows(told)[0][0]


FILES = ("payload.json", "result.json", "log.txt", "create.sh", "create.py")

SEARCHES = {
    "the field": ("type=pay&payload=Card:4111", 400),
    "below the field": ("type=pay&payload=Card.number:4111222233334444", 400),
    "text of the type": ("type=pay&payload=4111222233334444", 400),
    "another field": ("type=pay&payload=amount:7", 200),
}


@pytest.mark.parametrize(("query", "status"), SEARCHES.values(), ids=SEARCHES.keys())
def test_a_redacted_field_is_not_searched(
    engine: Engine, client: testing.TestClient, query: str, status: int
) -> None:
    """Who looks for a value could find out what it is: of its type that is refused."""
    pay(engine, delay_seconds=3600)
    answer = client.simulate_get(f"/jobs?{query}")
    assert answer.status_code == status
    if status == 400:
        assert "cannot be searched" in answer.json["fields"]["payload"]
    else:
        assert answer.json


def test_a_search_in_all_types_passes_over_redacted_ones(engine: Engine, client: testing.TestClient) -> None:
    """Jobs of other types are found by the same words, those with redacted fields are not."""
    pay(engine, delay_seconds=3600)
    address = {"street": CARD}
    ship = engine.broker.actors["ship"]
    other = goqueue.enqueue(ship, {"card": CARD, "address": address}, delay_seconds=3600)
    for query in (f"payload={CARD}", f"payload=card:{CARD}", f"payload=address.street:{CARD}"):
        found = client.simulate_get(f"/jobs?{query}").json
        assert [job["id"] for job in found] == [other]
    whole = '{"number":"4111222233334444"}'
    assert client.simulate_get("/jobs", params={"payload": f"Card:{whole}"}).json == []


@pytest.mark.usefixtures("engine")
def test_a_redacted_field_gets_no_index(client: testing.TestClient) -> None:
    """An index is for searches, which there are none of."""
    for path in ("Card", "items.token"):
        answer = client.simulate_put("/types/pay", json={"indexed": [path]})
        assert (answer.status_code, list(answer.json["fields"])) == (400, ["indexed"])


def test_jobs_of_a_batch_do_not_quote_each_other(engine: Engine) -> None:
    """One error is that of all jobs of a batch: each has it without the values of the others."""
    cards = [f"{CARD}-{number}" for number in range(3)]
    together = engine.broker.actors["pay_together"]
    ids = goqueue.enqueue_many(together, [{"card": card} for card in cards])
    errors = [engine.wait_for(job_id, JobStatus.FAILED).error for job_id in ids]
    assert all(error is not None and CARD not in error for error in errors)
    assert str(errors[0]).count("[redacted]") == 3
