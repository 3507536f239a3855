"""Creating a job in the dashboard: the form of a type, and the request as JSON."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from falcon import testing

from goqueue.db.database import Database
from goqueue.engine import job_rows as job_store
from tests.support.dashboard.client import DashboardClient
from tests.support.dashboard.html import elements_of

PLACE = "/dashboard/create"
MAIL = {"payload.to": "ada@example.com", "payload.subject": "Hello", "payload.body": "One\r\nTwo"}
Rows = Callable[[], int]


def created(result: testing.Result, database: Database) -> Any:
    """The job that a form made: the page goes to it."""
    assert result.status_code == 303, result.text
    place = result.headers["location"]
    found = re.fullmatch(r"/dashboard/jobs/(\d+)", place)
    assert found, place
    with database.autocommit() as connection:
        return job_store.get(connection, int(found[1]))


def document_in(page: str) -> Any:
    """The request that the page shows as JSON."""
    return json.loads(elements_of(page).one("textarea", name="document").text)


def beside(page: str, name: str) -> str:
    """What is said to be wrong beside a field."""
    return "".join(one.text for one in elements_of(page).all("p", id=f"{name}-wrong"))


def test_the_type_is_chosen_first(dashboard: DashboardClient) -> None:
    """Every declared type can be chosen; one that is not there is a page that says so."""
    page = dashboard.get(PLACE)
    assert page.status_code == 200
    assert all(f'<option value="{name}"' in page.text for name in ("noop", "send_email", "send_webhook"))
    assert '<form method="post" action="/dashboard/create"' not in page.text
    assert dashboard.get(f"{PLACE}?type=nothing").status_code == 404


def test_a_type_has_its_form(dashboard: DashboardClient) -> None:
    """Each member of the payload is a field, choices are choices, and free objects are JSON."""
    page = dashboard.get(f"{PLACE}?type=send_webhook").text
    assert 'name="payload.url"' in page
    assert re.search(r'<select name="payload.method"', page)
    assert re.search(r'<textarea name="payload.headers"', page)
    assert "at least 1, at most 30" in page


def test_a_filled_in_form_is_a_job(dashboard: DashboardClient, database: Database) -> None:
    """The payload and everything beside it are in the job, and its page comes next."""
    beside_payload = {
        "queue": "default",
        "priority": "-7",
        "delay_seconds": "60",
        "concurrency_key": "tenant",
        "tags": "one, two",
        "max_retries": "2",
        "unique_key": "mail-1",
    }
    job = created(dashboard.post(PLACE, type="send_email", do="create", **MAIL, **beside_payload), database)
    assert job.payload == {"to": "ada@example.com", "subject": "Hello", "body": "One\nTwo"}
    assert (job.type, job.queue, job.priority, job.max_retries) == ("send_email", "default", -7, 2)
    assert (job.concurrency_key, job.unique_key) == ("tenant", "mail-1")
    assert job.tags == ("one", "two")
    assert 55 < (job.available_at - job.created_at).total_seconds() < 65


def test_an_empty_form_is_the_defaults(dashboard: DashboardClient, database: Database) -> None:
    """A type whose members all have defaults needs nothing typed."""
    job = created(dashboard.post(PLACE, type="noop", do="create"), database)
    assert (job.queue, job.priority, job.max_retries) == ("noop", 0, 5)


def test_what_is_wrong_stands_beside_its_field_and_what_was_typed_is_kept(
    dashboard: DashboardClient, rows: Rows
) -> None:
    """Everything at once: what the form cannot read, what the type refuses, and what the request does."""
    page = dashboard.post(
        PLACE,
        type="process_payment",
        do="create",
        **{
            "payload.payment_id": "two words",
            "payload.user_id": "u1",
            "payload.amount": "much",
            "payload.currency": "EUR",
            "payload.method": '"card"',
            "tags": "x" * 101,
        },
    )
    assert page.status_code == 400
    assert beside(page.text, "payload.amount") == "expected a number"
    assert 'value="much"' in page.text
    assert beside(page.text, "tags")
    fixed = dashboard.post(
        PLACE,
        type="process_payment",
        do="create",
        **{"payload.payment_id": "two words", "payload.amount": "0", "payload.method": '"card"'},
    )
    assert "match pattern" in beside(fixed.text, "payload.payment_id")
    assert "greater than 0" in beside(fixed.text, "payload.amount")
    assert beside(fixed.text, "payload.user_id")
    assert '<option value="&#34;card&#34;" selected>card</option>' in fixed.text
    assert rows() == 0


def test_a_setting_that_is_wrong_is_refused_as_rest_refuses_it(
    dashboard: DashboardClient, rows: Rows
) -> None:
    """Numbers that are none, a queue that is none, and two ways to say when."""
    page = dashboard.post(PLACE, type="noop", do="create", priority="high", max_retries="21").text
    assert "valid integer" in beside(page, "priority")
    assert "less than or equal to 20" in beside(page, "max_retries")
    page = dashboard.post(PLACE, type="noop", do="create", queue="nowhere").text
    assert beside(page, "queue") == "there is no such queue"
    page = dashboard.post(
        PLACE, type="noop", do="create", delay_seconds="5", available_at="2031-01-01T10:00"
    ).text
    assert "only one of" in beside(page, "delay_seconds")
    assert rows() == 0


def test_the_holder_of_a_unique_key_is_shown_instead(dashboard: DashboardClient, rows: Rows) -> None:
    """A second job of a key is not created, and the page that follows says so."""
    first = dashboard.post(PLACE, type="noop", do="create", unique_key="k").headers["location"]
    second = dashboard.post(PLACE, type="noop", do="create", unique_key="k")
    assert second.headers["location"] == first
    assert rows() == 1
    assert "has this unique key" in dashboard.get(first).text


def test_the_form_turns_into_json_and_back(dashboard: DashboardClient, database: Database) -> None:
    """What was typed is in the request, and the request is in the form again; either creates the job."""
    page = dashboard.post(PLACE, type="send_email", do="json", priority="5", **MAIL)
    assert page.status_code == 200
    document = document_in(page.text)
    assert document == {
        "type": "send_email",
        "payload": {"to": "ada@example.com", "subject": "Hello", "body": "One\nTwo"},
        "priority": 5,
    }
    text = json.dumps(document | {"queue": "email"})
    form = dashboard.post(PLACE, type="send_email", do="form", document=text)
    assert form.status_code == 200
    assert 'value="ada@example.com"' in form.text
    assert 'value="email"' in form.text
    job = created(dashboard.post(PLACE, type="send_email", do="create", document=text), database)
    assert (job.queue, job.priority, job.payload["to"]) == ("email", 5, "ada@example.com")


def test_a_request_may_say_more_than_the_form(
    dashboard: DashboardClient, database: Database, rows: Rows
) -> None:
    """A chain is created from JSON; the form does not throw its other jobs away."""
    chain = {"type": "noop", "queue": "noop", "payload": {}, "then": [{"queue": "noop", "payload": {}}]}
    refused = dashboard.post(PLACE, type="noop", do="form", document=json.dumps(chain))
    assert refused.status_code == 400
    assert "more than the form can" in refused.text
    assert document_in(refused.text) == chain
    created(dashboard.post(PLACE, type="noop", do="create", document=json.dumps(chain)), database)
    assert rows() == 2


@pytest.mark.parametrize(
    ("document", "said"),
    [
        pytest.param("{", "malformed JSON", id="no-json"),
        pytest.param("[]", "valid dictionary", id="no-object"),
        pytest.param('{"type": "noop"}', "payload: Field required", id="no-payload"),
        pytest.param('{"type": "noop", "payload": {}, "colour": 1}', "colour", id="unknown-member"),
        pytest.param('{"type": "nothing", "queue": "noop", "payload": {}}', "unknown job type", id="no-type"),
    ],
)
def test_a_request_that_is_wrong_is_kept(
    dashboard: DashboardClient, rows: Rows, document: str, said: str
) -> None:
    """It is shown again as it was typed, with what is wrong."""
    page = dashboard.post(PLACE, type="noop", do="create", document=document)
    assert page.status_code == 400
    assert said in html.unescape(page.text)
    assert html.escape(document, quote=False) in page.text.replace("&#34;", '"')
    assert rows() == 0


def test_what_was_typed_is_text(dashboard: DashboardClient) -> None:
    """Nothing typed becomes markup, in the form and in the JSON."""
    hostile = "</textarea><script>alert(1)</script>"
    fields = {"payload.to": hostile, "payload.subject": hostile, "payload.body": hostile}
    for do in ("create", "json"):
        page = dashboard.post(PLACE, type="send_email", do=do, queue=hostile, **fields)
        assert hostile not in page.text
        assert "&lt;script&gt;" in page.text


def test_values_stay_whole(dashboard: DashboardClient, database: Database) -> None:
    """A first empty line, tabs, and characters of any script arrive as they were typed."""
    body = "\n\tnach oben → über \N{RIGHT-TO-LEFT OVERRIDE}rechts\N{POP DIRECTIONAL FORMATTING} 🙂\n"
    job = created(
        dashboard.post(PLACE, type="send_email", do="create", **MAIL | {"payload.body": body}), database
    )
    assert job.payload["body"] == body
    shown = dashboard.post(
        PLACE, type="send_email", do="create", **MAIL | {"payload.body": body, "priority": "x"}
    )
    found = re.search(r'<textarea name="payload.body"[^>]*>\n(.*?)</textarea>', shown.text, re.DOTALL)
    assert found
    assert html.unescape(found[1]) == body
