"""No answer and no page tells what jobs hold to whoever may not read it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, get_args, get_origin

import pytest
from falcon import testing
from pydantic import BaseModel, TypeAdapter

from goqueue.access.keys import Keys
from goqueue.api.app import create_app
from goqueue.api.frame.answers import CONTENTS
from goqueue.api.frame.withholding import WITHHELD_HEADER, marks_of, without_contents
from goqueue.api.operations import OPERATIONS
from goqueue.config.settings import Settings
from goqueue.dashboard.site import DASHBOARD
from goqueue.db.database import Database
from goqueue.engine.runway.runway import Runway
from tests.support.access_tables import role_table
from tests.support.dashboard.client import DashboardClient
from tests.support.dashboard.pages import addresses, page_routes
from tests.support.factories import JobFactory
from tests.support.secret_jobs import SECRETS, SecretJobs
from tests.support.shared_database import emptied_database, module_settings

module_settings = module_settings  # noqa: PLW0127  (a fixture)
database = emptied_database

Enter = Callable[[str], testing.TestClient]

#: Scopes that are enough to see everything but what jobs hold, and all scopes without that.
BLIND = {
    "viewer": ["viewer"],
    "all but payloads:read": sorted(
        scope for scope in role_table()["operator"] | {"jobs:run", "keys:manage"} if scope != "payloads:read"
    ),
}
SEEING = {role: [role] for role in ("operator", "admin")}


@pytest.fixture
def application(module_settings: Settings, database: Database, runway: Runway) -> Any:
    """API and dashboard, which need a key."""
    settings = module_settings.model_copy(update={"api_keys_required": True})
    return create_app(settings, database=database, runway=runway, site=DASHBOARD)


@pytest.fixture
def key_of(database: Database) -> Callable[[list[str]], str]:
    """Makes keys of some scopes."""
    return lambda scopes: Keys(database).create("the key of a test", *scopes).text


@pytest.fixture
def secrets(
    application: Any, database: Database, make_job: JobFactory, key_of: Callable[[list[str]], str]
) -> SecretJobs:
    """The jobs that hold them."""
    return SecretJobs(database, make_job, client_with(application, key_of(["admin"])))


def client_with(application: Any, key: str) -> testing.TestClient:
    """A client of the API that brings a key with each request."""
    return testing.TestClient(application, headers={"Authorization": f"Bearer {key}"})


def answers_of(client: testing.TestClient, secrets: SecretJobs) -> Iterator[tuple[str, testing.Result]]:
    """Every GET of the API; those that are streams are read in tests/system/test_event_streams.py."""
    for (method, path), operation in OPERATIONS.items():
        if method == "GET" and operation.stream is None:
            for address in secrets.addresses(path):
                yield address, client.simulate_get(address)


def found_in(texts: Iterator[tuple[str, testing.Result]]) -> dict[str, set[str]]:
    """Secret → where it stands."""
    found: dict[str, set[str]] = {}
    for address, result in texts:
        assert result.status_code in {200, 403, 404}, (address, result.text)
        for secret in SECRETS:
            if secret in result.text or secret in str(result.headers):
                found.setdefault(secret, set()).add(address)
    return found


@pytest.mark.parametrize("who", BLIND)
def test_answers_withhold(
    application: Any, secrets: SecretJobs, key_of: Callable[[list[str]], str], who: str
) -> None:
    """From everybody without payloads:read, by whatever address."""
    assert found_in(answers_of(client_with(application, key_of(BLIND[who])), secrets)) == {}


@pytest.mark.parametrize("who", SEEING)
def test_answers_tell(
    application: Any, secrets: SecretJobs, key_of: Callable[[list[str]], str], who: str
) -> None:
    """Everything to those with it: so the test before this one can fail."""
    found = found_in(answers_of(client_with(application, key_of(SEEING[who])), secrets))
    assert set(found) == set(SECRETS)


def test_what_is_left_is_as_described(
    application: Any, secrets: SecretJobs, key_of: Callable[[list[str]], str]
) -> None:
    """The models of the answers have a place for what is left out."""
    client, seen = client_with(application, key_of(["viewer"])), 0
    for (method, path), operation in OPERATIONS.items():
        if method != "GET" or operation.answer is None:
            continue
        kind: Any = list[operation.answer] if operation.many else operation.answer  # type: ignore[name-defined]
        for address in secrets.addresses(path):
            answer = client.simulate_get(address)
            if WITHHELD_HEADER.lower() in answer.headers:
                TypeAdapter(kind).validate_json(answer.text)
                seen += 1
    assert seen > 20


def signed_in(application: Any, key: str) -> DashboardClient:
    """A browser that showed a key."""
    browser = DashboardClient(testing.TestClient(application))
    assert browser.post("/dashboard/login", key=key).status_code == 303
    return browser


def pages_for(browser: DashboardClient, secrets: SecretJobs) -> Iterator[tuple[str, testing.Result]]:
    """Every page of the dashboard, whole and as its poll."""
    for template in page_routes():
        for address in addresses(template, secrets.places):
            yield address, browser.get(address)
            yield f"{address} (live)", browser.live(address)
    for job_id in secrets.ids:
        for name in ("payload.json", "result.json", "log.txt", "create.sh", "create.py"):
            address = f"/dashboard/jobs/{job_id}/files/{name}"
            yield address, browser.get(address)


@pytest.mark.parametrize("who", BLIND)
def test_pages_withhold(
    application: Any, secrets: SecretJobs, key_of: Callable[[list[str]], str], who: str
) -> None:
    """Also the polls that somebody else with another key had made just before, and files of a job."""
    # Signed in before, because a form that is sent makes the answers to polls forgotten.
    seeing, blind = (signed_in(application, key_of(scopes)) for scopes in (["admin"], BLIND[who]))
    both = zip(pages_for(seeing, secrets), pages_for(blind, secrets), strict=True)
    assert found_in(page for _, page in both) == {}


def test_pages_tell(application: Any, secrets: SecretJobs, key_of: Callable[[list[str]], str]) -> None:
    """Everything to an operator: so the test before this one can fail."""
    found = found_in(pages_for(signed_in(application, key_of(["operator"])), secrets))
    assert set(found) == set(SECRETS)


@pytest.mark.parametrize("name", ["payload", "error"])
def test_a_search_is_no_oracle(
    application: Any, secrets: SecretJobs, key_of: Callable[[list[str]], str], name: str
) -> None:
    """What a key may not read it cannot search for, neither in lists nor by what is done to many."""
    scopes = BLIND["all but payloads:read"]
    client = client_with(application, key_of(scopes))
    searched = {"status": "failed", name: "secret"}
    refused = [
        client.simulate_get("/jobs", params=searched),
        client.simulate_post("/bulk-operations", json={"action": "retry", "filter": searched}),
        client.simulate_post(
            "/bulk-operations", json={"action": "retry", "filter": searched, "dry_run": True}
        ),
    ]
    browser = DashboardClient(testing.TestClient(application))
    browser.post("/dashboard/login", key=key_of(scopes))
    refused += [
        browser.get(f"/dashboard/jobs?status=failed&{name}=secret"),
        browser.get(f"/dashboard/operations/new?action=retry&status=failed&{name}=secret"),
        browser.post("/dashboard/operations", action="retry", **searched),
    ]
    assert [answer.status_code for answer in refused] == [403] * len(refused)
    del secrets


def test_answers_to_changes_withhold_as_well(
    application: Any, secrets: SecretJobs, key_of: Callable[[list[str]], str]
) -> None:
    """Whoever may change a job is not told by the answer what it holds."""
    client = client_with(application, key_of(BLIND["all but payloads:read"]))
    failed, running, *_, edited = secrets.ids
    answers = [
        client.simulate_patch(f"/jobs/{edited}", json={"priority": 3}),
        client.simulate_post(f"/jobs/{failed}/retry"),
        client.simulate_post(f"/jobs/{running}/cancel"),
        client.simulate_post("/schedules/nightly/run"),
        client.simulate_post("/schedules/nightly/pause"),
    ]
    for answer in answers:
        assert answer.status_code in {200, 201}, answer.text
        assert "secret" not in answer.text
        assert answer.headers[WITHHELD_HEADER] == "payloads:read"
    with_key = client_with(application, key_of(["admin"]))
    assert with_key.simulate_get(f"/jobs/{edited}").json["payload"] == {"text": "secret-edit"}


def test_members_that_hold_anything_are_marked() -> None:
    """A member of an answer that takes any value holds what a job holds, unless it is listed here."""
    harmless = {
        ("ReasonDocument", "evidence"),
        ("TypeDocument", "payload_schema"),
        # Only an admin reads them, and no payload is in them.
        ("AuditEntryDocument", "before"),
        ("AuditEntryDocument", "after"),
    }
    unmarked = set()
    for operation in OPERATIONS.values():
        for model in (operation.answer, *operation.other_answers.values()):
            for found in models_in(model):
                unmarked |= {
                    (found.__name__, name)
                    for name, field in found.model_fields.items()
                    if holds_anything(field.annotation) and CONTENTS not in field.metadata
                }
    assert unmarked <= harmless


def models_in(model: Any) -> Iterator[type[BaseModel]]:
    """A model and those inside of it, where they are not left out as a whole."""
    if isinstance(model, type) and issubclass(model, BaseModel):
        yield model
        for field in model.model_fields.values():
            if CONTENTS not in field.metadata:
                yield from models_in(field.annotation)
    for argument in get_args(model):
        yield from models_in(argument)


def holds_anything(annotation: Any) -> bool:
    """Whether a value of this annotation may be anything, or a mapping to anything."""
    if annotation is Any:
        return True
    return get_origin(annotation) not in {None, list} and any(map(holds_anything, get_args(annotation)))


def test_a_document_without_contents() -> None:
    """Marked members become null, in lists and inside of others; what is not there stays away."""
    marks = {"payload": None, "jobs": {"error": None}}
    document = [{"id": 1, "payload": {"a": 1}, "jobs": [{"error": "x", "id": 2}, {"id": 3}]}, {"id": 4}]
    assert without_contents(document, marks) == [
        {"id": 1, "payload": None, "jobs": [{"error": None, "id": 2}, {"id": 3}]},
        {"id": 4},
    ]
    assert marks_of(OPERATIONS["GET", "/stats"].answer) == {}
