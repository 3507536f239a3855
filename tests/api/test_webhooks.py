"""Webhooks over REST: made, changed, tried, rotated, disabled; and the log of what they were told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from falcon import testing

from goqueue.access.keys import Keys
from goqueue.api.app import create_app
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.engine.runway.runway import Runway
from goqueue.webhooks.service import WebhookFeeder
from tests.support.factories import JobFactory
from tests.support.shared_database import emptied_database, module_settings

module_settings = module_settings  # noqa: PLW0127  (a fixture)
database = emptied_database

#: An address of the internet, which nobody calls here.
URL = "https://93.184.216.34/hook"

Ask = Callable[..., testing.Result]


@pytest.fixture
def ask(module_settings: Settings, database: Database, runway: Runway) -> Ask:
    """Asks with a key of some scopes; an admin's where none are given."""
    settings = module_settings.model_copy(update={"api_keys_required": True})
    client = testing.TestClient(create_app(settings, database=database, runway=runway))
    keys, made = Keys(database), dict[tuple[str, ...], str]()

    def ask(method: str, path: str, *scopes: str, **rest: Any) -> testing.Result:
        scopes = scopes or ("admin",)
        if scopes not in made:
            made[scopes] = keys.create("ops", *scopes).text
        headers = {"Authorization": f"Bearer {made[scopes]}"}
        return client.simulate_request(method, path, headers=headers, **rest)

    return ask


@pytest.fixture
def tell(module_settings: Settings, database: Database) -> Callable[[], object]:
    """Tells the webhooks what is new."""
    return WebhookFeeder(module_settings, database, lambda _: None).run_once


def test_a_secret_is_shown_once(ask: Ask) -> None:
    """When the webhook is made and when it is rotated; and values of headers never."""
    said = {"name": "shop", "url": URL, "headers": {"Authorization": "Bearer hidden"}, "events": ["job.*"]}
    made = ask("POST", "/webhooks", json=said)
    assert (made.status_code, made.headers["location"]) == (201, "/webhooks/shop")
    assert made.json["secret"].startswith("whsec_")
    assert made.json["headers"] == {"Authorization": "***"}
    assert (made.json["state"], made.json["events"], made.json["queues"]) == ("active", ["job.*"], None)
    assert made.json["created_by"].startswith("ops (")
    rotated = ask("POST", "/webhooks/shop/rotate", json={"overlap_seconds": 60})
    assert rotated.json["secret"] != made.json["secret"]
    assert rotated.json["previous_until"] is not None
    for path in ("/webhooks", "/webhooks/shop"):
        text = ask("GET", path, "events:read").text
        assert made.json["secret"] not in text
        assert rotated.json["secret"] not in text
        assert "Bearer hidden" not in text
    audit = ask("GET", "/audit", params={"target": "webhook shop"})
    assert [entry["action"] for entry in audit.json] == ["webhook.rotate", "webhook.create"]
    assert audit.json[1]["after"]["headers"] == ["Authorization"]
    assert "whsec_" not in audit.text


def test_a_webhook_lives(ask: Ask) -> None:
    """Changed, disabled with a reason, enabled, deleted."""
    assert ask("POST", "/webhooks", json={"name": "shop", "url": URL}).status_code == 201
    assert ask("POST", "/webhooks", json={"name": "shop", "url": URL}).status_code == 409
    changed = ask("PATCH", "/webhooks/shop", json={"queues": ["mail"], "ordered": True})
    assert (changed.json["queues"], changed.json["ordered"]) == (["mail"], True)
    limits = ask("GET", "/queues/webhook-deliveries").json
    assert (limits["key_concurrency"], limits["fifo"]) == (1, True)
    assert ask("PATCH", "/webhooks/shop", json={"queues": None}).json["queues"] is None
    disabled = ask("POST", "/webhooks/shop/disable", json={"reason": "moves house"})
    assert (disabled.json["state"], disabled.json["disabled_reason"]) == ("disabled", "moves house")
    assert ask("POST", "/webhooks/shop/disable").json["disabled_reason"] == "moves house"
    assert ask("POST", "/webhooks/shop/enable").json["state"] == "active"
    assert ask("DELETE", "/webhooks/shop").status_code == 204
    assert ask("GET", "/webhooks/shop").status_code == 404
    assert ask("GET", "/webhooks").json == []


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"name": "a/b", "url": URL}, "name"),
        ({"name": "shop", "url": "http://127.0.0.1/"}, "url"),
        ({"name": "shop", "url": "http://169.254.169.254/"}, "url"),
        ({"name": "shop", "url": URL, "events": ["job.lost"]}, "events[0]"),
        ({"name": "shop", "url": URL, "headers": {"Host": "x"}}, "headers"),
        ({"name": "shop", "url": URL, "headers": {"X": "a\r\nb"}}, "headers"),
    ],
)
def test_what_is_wrong_is_named(ask: Ask, document: dict[str, Any], field: str) -> None:
    """A 400 says which field it is, and nothing was made."""
    refused = ask("POST", "/webhooks", json=document)
    assert refused.status_code == 400
    assert field in refused.json["fields"]
    assert ask("GET", "/webhooks").json == []


def test_the_log_is_read_page_by_page(ask: Ask, tell: Callable[[], object], make_job: JobFactory) -> None:
    """The newest first, filtered, without bodies; each delivery with its body and its calls."""
    ask("POST", "/webhooks", json={"name": "shop", "url": URL, "events": ["job.created"]})
    jobs = [make_job().id for _ in range(5)]
    tell()
    first = ask("GET", "/webhooks/shop/deliveries", "events:read", params={"limit": 3})
    second = ask("GET", next_of(first))
    assert [one["job_id"] for one in [*first.json, *second.json]] == jobs[::-1]
    assert "Link" not in second.headers
    one = first.json[0]
    assert (one["event"], one["state"], one["attempts"]) == ("job.created", "pending", 0)
    details = ask("GET", f"/webhooks/shop/deliveries/{one['id']}").json
    assert details["webhook_id"].endswith(f"_{one['id']}")
    assert '"type":"job.created"' in details["body"]
    assert details["calls"] == []
    withheld = ask("GET", f"/webhooks/shop/deliveries/{one['id']}", "events:read")
    assert withheld.json["body"] is None
    assert withheld.headers["Contents-Withheld"] == "payloads:read"
    about = ask("GET", "/webhooks/shop/deliveries", params={"job_id": jobs[1], "state": "pending"}).json
    assert [found["job_id"] for found in about] == [jobs[1]]
    assert ask("GET", "/webhooks/shop/deliveries", params={"state": "delivered"}).json == []
    assert ask("GET", "/webhooks/shop/deliveries", params={"state": "lost"}).status_code == 400
    counts = ask("GET", "/webhooks/shop").json["deliveries"]
    assert counts == {"waiting": 0, "pending": 5, "delivered": 0, "failed": 0}


def next_of(result: testing.Result) -> str:
    """The address of the next page, without the host."""
    return result.headers["link"].partition("<")[2].partition(">")[0]


def test_deliveries_are_delivered_again(
    ask: Ask, tell: Callable[[], object], make_job: JobFactory, database: Database
) -> None:
    """One, or those of a time; what is under way is refused."""
    ask("POST", "/webhooks", json={"name": "shop", "url": URL, "events": ["job.created"]})
    for _ in range(3):
        make_job()
    tell()
    ids = [one["id"] for one in ask("GET", "/webhooks/shop/deliveries").json]
    assert ask("POST", f"/webhooks/shop/deliveries/{ids[0]}/redeliver").status_code == 409
    with database.autocommit() as connection:
        connection.exec_driver_sql("UPDATE webhook_deliveries SET state = 'failed', finished_at = now()")
    again = ask("POST", f"/webhooks/shop/deliveries/{ids[0]}/redeliver")
    assert (again.status_code, again.json["state"]) == (202, "waiting")
    since = {"since": "2020-01-01T00:00:00Z"}
    assert ask("POST", "/webhooks/shop/redeliver", json=since).json == {"deliveries": 2}
    assert ask("POST", "/webhooks/shop/redeliver", json={**since, "state": "waiting"}).status_code == 400
    assert ask("POST", "/webhooks/shop/redeliver", json={}).status_code == 400
    assert ask("POST", f"/webhooks/shop/deliveries/{max(ids) + 1}/redeliver").status_code == 404


def test_a_ping_is_on_its_way(ask: Ask) -> None:
    """It has a job at once, and stands in the log."""
    ask("POST", "/webhooks", json={"name": "shop", "url": URL})
    ping = ask("POST", "/webhooks/shop/ping")
    assert (ping.status_code, ping.json["event"], ping.json["state"]) == (202, "webhook.ping", "pending")
    assert ask("GET", f"/jobs/{ping.json['delivery_job_id']}").json["type"] == "deliver_webhook"
    assert ask("POST", "/webhooks/nosuch/ping").status_code == 404


def test_contents_go_only_where_their_reader_sends_them(ask: Ask) -> None:
    """Who may not read payloads makes no webhook with contents, and sends those of another nowhere."""
    manage = ("webhooks:manage", "events:read")
    said = {"name": "shop", "url": URL, "with_contents": True}
    assert ask("POST", "/webhooks", *manage, json=said).status_code == 403
    assert ask("POST", "/webhooks", *manage, "payloads:read", json=said).status_code == 201
    assert ask("PATCH", "/webhooks/shop", *manage, json={"url": f"{URL}/mine"}).status_code == 403
    assert ask("PATCH", "/webhooks/shop", *manage, json={"with_contents": False}).status_code == 200
    assert ask("PATCH", "/webhooks/shop", *manage, json={"with_contents": True}).status_code == 403
    assert ask("PATCH", "/webhooks/shop", *manage, json={"url": f"{URL}/mine"}).status_code == 200
