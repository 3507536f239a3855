"""Every operation for every role, against the tables of docs/access.md; and what a restriction hides."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from falcon import testing

from goqueue.access.keys import Keys
from goqueue.access.scopes import ROLES, Scope
from goqueue.api.app import create_app
from goqueue.api.operations import OPERATIONS
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.engine.runway.runway import Runway
from goqueue.jobs import MAX_JOB_ID, JobStatus
from tests.support.access_tables import OperationRow, operation_rows, role_table, scope_names
from tests.support.factories import JobFactory
from tests.support.jobs import noop_jobs
from tests.support.shared_database import emptied_database, module_settings

module_settings = module_settings  # noqa: PLW0127  (a fixture)
database = emptied_database

#: What a role has that is told nowhere: a key without any scope of use.
NOTHING = "events:read"

PLACES = {"job_id": "1", "operation_id": "1", "worker_id": "1", "name": "nosuch", "key": "k"}
PLACES |= {"token": "none", "fingerprint": "0" * 16, "key_id": "a" * 12, "delivery_id": "1"}

Ask = Callable[..., testing.Result]


@pytest.fixture
def settings(module_settings: Settings) -> Settings:
    """A key is needed, and none is in the settings."""
    return module_settings.model_copy(update={"api_keys_required": True})


@pytest.fixture
def ask(settings: Settings, database: Database, runway: Runway) -> Ask:
    """Asks with a key of some scopes."""
    client = testing.TestClient(create_app(settings, database=database, runway=runway))
    keys, made = Keys(database), dict[str, str]()

    def ask(method: str, path: str, *scopes: str, only: Mapping[str, Any] | None = None, **rest: Any) -> Any:
        name = f"{scopes}{only}"
        if name not in made:
            made[name] = keys.create("the key of a test", *scopes, **(only or {})).text
        headers = {"Authorization": f"Bearer {made[name]}"} | dict(rest.pop("headers", {}))
        if method in {"POST", "PUT", "PATCH"}:
            rest = {"json": {}} | rest
        return client.simulate_request(method, path, headers=headers, **rest)

    return ask


def path_of(row: OperationRow) -> str:
    """An address of an operation, about what is not there."""
    return row.path.format(**PLACES)


def test_the_tables_name_everything() -> None:
    """No operation, no scope and no role is missing in docs/access.md."""
    assert {(row.method, row.path): row.scope for row in operation_rows()} == {
        key: operation.scope for key, operation in OPERATIONS.items()
    }
    assert scope_names() == list(Scope)
    assert role_table() == {role: frozenset(map(str, scopes)) for role, scopes in ROLES.items()}


@pytest.mark.parametrize("role", [*ROLES, NOTHING])
def test_a_role_may_do_what_the_table_says(ask: Ask, role: str) -> None:
    """And nothing else: 403, whether or not it is there."""
    scopes = role_table().get(role, frozenset({role}))
    wrong = {}
    for row in operation_rows():
        status = ask(row.method, path_of(row), role).status_code
        may = row.scope is None or row.scope in scopes or "admin" in scopes
        if (status == 403) is may or status in {401, 500}:
            wrong[row.method, row.path] = status
    assert wrong == {}


@pytest.mark.parametrize("only", [{"queues": ["mine"]}, {"types": ["mine"]}], ids=["queues", "types"])
def test_a_restricted_key_may_do_what_the_table_says(
    ask: Ask, make_job: JobFactory, only: Mapping[str, Any]
) -> None:
    """What is another's is not there for it, and what is about everything is refused, also to an admin."""
    others = make_job(JobStatus.FAILED, queue="theirs", type="theirs")
    allowed = "/types" if "types" in only else "/queues"
    refused = "/queues" if "types" in only else "/types"
    wrong = {}
    for row in operation_rows():
        path = row.path.format(**PLACES | {"job_id": str(others.id), "name": "theirs"})
        status = ask(row.method, path, "admin", only=only).status_code
        if row.scope is None:
            expected = {200}
        elif (
            row.restricted == "403"
            or row.path == refused
            or (row.path.startswith(refused) and row.restricted != "narrowed")
        ):
            expected = {403}
        elif row.restricted == "404":
            expected = {404}
        elif OPERATIONS[row.method, row.path].stream:
            # It may listen, and this server has no streams: tests/system/test_event_streams.py listens.
            expected = {503}
        else:
            expected = {200, 400}
        if status not in expected:
            wrong[row.method, path] = status
    assert wrong == {}
    assert ask("GET", allowed, "admin", only=only).status_code == 200


def test_a_restricted_key_finds_and_creates_only_its_own(ask: Ask, make_job: JobFactory) -> None:
    """In lists, in operations by a filter, and in new jobs, also those of a batch and a chain."""
    mine = {"queues": [noop_jobs.noop.queue_name]}
    own = make_job(JobStatus.FAILED, queue=noop_jobs.noop.queue_name)
    other = make_job(JobStatus.FAILED, queue="theirs")
    listed = ask("GET", "/jobs", "admin", only=mine, params={"status": "failed"}).json
    assert [job["id"] for job in listed] == [own.id]
    assert ask("GET", f"/jobs/{own.id}", "admin", only=mine).status_code == 200
    since = {"created_after": "2020-01-01T00:00:00Z"}
    assert ask("POST", "/jobs/retry", "admin", only=mine, json=since).json == {"retried": 1}
    assert ask("GET", f"/jobs/{other.id}", "admin").json["status"] == "failed"
    assert [queue["name"] for queue in ask("GET", "/queues", "admin", only=mine).json] == mine["queues"]

    job = {"queue": noop_jobs.noop.queue_name, "payload": {}}
    assert ask("POST", "/jobs/create", "admin", only=mine, json=job).status_code == 201
    assert ask("POST", "/jobs/create", "admin", only={"types": ["other"]}, json=job).status_code == 403
    elsewhere: dict[str, Any] = {"queue": "email", "type": "send_email"}
    elsewhere |= {"payload": {"to": "a@shop.example", "subject": "hello", "body": "hello"}}
    for path, document in {
        "/jobs/create": elsewhere,
        "/jobs": job | {"then": [elsewhere]},
        "/jobs/batch": {"jobs": [job, elsewhere]},
    }.items():
        assert ask("POST", path, "admin", json=document).status_code == 201, path
        assert ask("POST", path, "admin", only=mine, json=document).status_code == 403, path


def test_a_restricted_key_waits_for_no_job_of_others(ask: Ask, make_job: JobFactory) -> None:
    """A foreign parent is refused as one that does not exist, by every door; links to it are not told."""
    mine = {"queues": [noop_jobs.noop.queue_name]}
    own = make_job(JobStatus.QUEUED, queue=noop_jobs.noop.queue_name).id
    other = make_job(JobStatus.COMPLETED, queue="theirs").id
    job = {"queue": noop_jobs.noop.queue_name, "payload": {}}
    doors: list[tuple[str, str, Callable[[int], dict[str, Any]]]] = [
        ("/jobs/create", "", lambda parent: job | {"depends_on": [parent]}),
        ("/jobs", "", lambda parent: job | {"depends_on": [parent], "then": [job]}),
        ("/jobs/batch", "jobs[1].", lambda parent: {"jobs": [job, job | {"depends_on": [own, parent]}]}),
    ]
    for number, (path, place, document_of) in enumerate(doors):
        for headers in (dict[str, str](), {"Idempotency-Key": f"key-{number}"}):
            refusals = [
                ask("POST", path, "admin", only=mine, json=document_of(parent), headers=headers)
                for parent in (other, MAX_JOB_ID)
            ]
            assert [refusal.status_code for refusal in refusals] == [400, 400], path
            fields = [refusal.json["fields"] for refusal in refusals]
            assert list(fields[0]) == list(fields[1])
            assert [next(iter(found.values())) for found in fields] == [
                f"there is no job {parent}" for parent in (other, MAX_JOB_ID)
            ]
            assert next(iter(fields[0])).startswith(f"{place}depends_on[")
    created = ask("POST", "/jobs/create", "admin", only=mine, json=job | {"depends_on": [own]}).json
    both = ask("POST", "/jobs/create", "admin", json=job | {"depends_on": [own, other]}).json
    path = f"/jobs/{both['id']}/dependencies"
    assert [parent["id"] for parent in ask("GET", path, "admin").json["parents"]] == [own, other]
    assert [parent["id"] for parent in ask("GET", path, "admin", only=mine).json["parents"]] == [own]
    children = ask("GET", f"/jobs/{own}/dependencies", "admin", only=mine).json["children"]
    assert [child["id"] for child in children] == [created["id"], both["id"]]


def test_a_key_gives_no_more_than_it_has(ask: Ask) -> None:
    """Neither a new one, nor the secret of one that may do more; and a restricted one gives none."""
    new = {"name": "new", "scopes": ["jobs:read"]}
    assert ask("POST", "/keys", "keys:manage", "jobs:read", json=new).status_code == 201
    for scopes in (["jobs:manage"], ["admin"], ["operator"], ["jobs:read", "payloads:read"]):
        refused = ask("POST", "/keys", "keys:manage", "jobs:read", json=new | {"scopes": scopes})
        assert refused.status_code == 403, scopes
    stronger = ask("POST", "/keys", "admin", json=new | {"scopes": ["operator"]}).json["id"]
    assert ask("POST", f"/keys/{stronger}/rotate", "keys:manage", "jobs:read").status_code == 403
    assert ask("POST", f"/keys/{stronger}/rotate", "admin").status_code == 200
    assert ask("POST", f"/keys/{stronger}/revoke", "keys:manage").status_code == 200
