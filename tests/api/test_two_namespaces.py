"""Two namespaces of one database with everything twice under the same names: none tells of the other."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any, NamedTuple

import pytest
from falcon import testing

from goqueue.access.quotas import Quotas
from goqueue.api.app import app_of, open_goqueue
from goqueue.api.key_routing import KeyRouter, create_key_router
from goqueue.api.operations import OPERATIONS
from goqueue.config.settings import Settings
from goqueue.dashboard.site import DASHBOARD
from goqueue.db.database import Database
from goqueue.dev.embedded import EmbeddedPostgres, EmbeddedValkey
from goqueue.instance import GoQueue
from tests.api.conftest import NOOP
from tests.support.dashboard.client import DashboardClient
from tests.support.dashboard.pages import addresses, page_routes, routes
from tests.support.factories import JobFactory
from tests.support.secret_jobs import WEBHOOK, SecretJobs
from tests.support.shared_database import own_settings
from tests.support.waiting import wait_until

#: So many jobs there are in the second one before its others: its ids are not those of the first.
AHEAD = 100

NAMES = ("acme", "beta")


class Tenant(NamedTuple):
    """A namespace, and whoever has a key of it.

    Attributes:
        mark: stands wherever something of it may have a text of its own.
        jobs: one of every kind.
    """

    name: str
    mark: str
    key: str
    key_id: str
    goqueue: GoQueue
    client: testing.TestClient
    jobs: SecretJobs
    worker_id: int
    token: str


@pytest.fixture(scope="module")
def settings(postgres: EmbeddedPostgres, valkey: EmbeddedValkey) -> Iterator[Settings]:
    """An installation of the tests of this module, which needs keys."""
    with own_settings(
        postgres, valkey, "two_namespaces", api_keys_required=True, allowed_hosts=("falconframework.org",)
    ) as settings:
        yield settings


@pytest.fixture(scope="module")
def router(settings: Settings) -> Iterator[KeyRouter]:
    """The one API before all."""
    made = create_key_router(settings, site=DASHBOARD)
    yield made
    made.close()


@pytest.fixture(scope="module")
def home(settings: Settings) -> Iterator[GoQueue]:
    """The installation itself."""
    goqueue = open_goqueue(settings)
    yield goqueue
    goqueue.close()


@pytest.fixture(scope="module")
def tenants(settings: Settings, router: KeyRouter, home: GoQueue) -> Iterator[dict[str, Tenant]]:
    """Two namespaces in which everything was made twice under the same names, each with a mark of its own."""
    found = {}
    for place, name in enumerate(NAMES):
        home.namespaces.create(name, Quotas(share=1 + place))
        found[name] = furnished(settings, router, name, AHEAD * place)
    yield found
    for tenant in found.values():
        tenant.goqueue.close()


def furnished(settings: Settings, router: KeyRouter, name: str, ahead: int) -> Tenant:
    """A namespace with everything that a namespace can have."""
    goqueue = open_goqueue(settings.within(name))
    database, mark = goqueue.database, f"mark-of-{name}"
    other_ids = "".join(
        f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), {ahead + 1});"
        for table in ("jobs", "workers", "bulk_operations", "schedules", "webhook_deliveries")
    )
    made = goqueue.keys.create("client", "admin")
    client = client_with(router, made.text)
    make_job = JobFactory(database)
    with database.autocommit() as connection:
        connection.exec_driver_sql(other_ids)
    jobs = SecretJobs(database, make_job, client)
    create = NOOP | {"tags": [mark], "payload": {"text": mark}}
    assert client.simulate_post("/jobs/create", json=create | {"unique": {"key": "one"}}).status_code == 201
    idempotent = {"Idempotency-Key": "one"}
    assert client.simulate_post("/jobs/create", json=create, headers=idempotent).status_code == 201
    assert client.simulate_post("/jobs/batch", json={"jobs": [create, create]}).status_code == 201
    assert client.simulate_post("/jobs", json=create | {"then": [create]}).status_code == 201
    queue = f"/queues/{NOOP['queue']}"
    token = leased(client, f"{queue}/lease", mark)
    assert client.simulate_put(queue, json={"concurrency": 7 + ahead}).status_code == 200
    assert client.simulate_put(f"{queue}/keys/k", json={"weight": 3}).status_code == 200
    assert client.simulate_post(f"{queue}/pause", json={"reason": mark, "author": mark}).status_code == 200
    assert client.simulate_put("/types/noop", json={"concurrency": 5 + ahead}).status_code == 200
    assert client.simulate_post("/keys", json={"name": mark, "scopes": ["client"]}).status_code == 201
    schedule = {"name": mark, "cron": "0 3 * * *", **create}
    assert client.simulate_post("/schedules", json=schedule).status_code == 201
    make_job(queue=mark, type=mark)
    for job in (create, NOOP):  # with tags, and as plain as can be: they are counted in two ways
        own_queue = job | {"queue": mark, "type": "noop"}
        assert client.simulate_post("/jobs/create", json=own_queue).status_code == 201
    worker_id = make_job.worker(hostname=mark, silent_seconds=-3600)
    return Tenant(name, mark, made.text, made.key.id, goqueue, client, jobs, worker_id, token)


def leased(client: testing.TestClient, path: str, worker: str) -> str:
    """The token of a job that a worker outside of GoQueue has; it is pushed in a moment."""
    found: list[str] = []

    def lease() -> bool:
        answer = client.simulate_post(path, json={"worker": worker, "types": ["noop"]})
        assert answer.status_code == 200, answer.text
        found.extend(job["token"] for job in answer.json["jobs"])
        return bool(found)

    wait_until(lease, 20, "a job to be leased")
    return found[0]


def client_with(router: KeyRouter, key: str) -> testing.TestClient:
    """A client that brings a key with each request, to the same addresses as everybody."""
    return testing.TestClient(router, headers={"Authorization": f"Bearer {key}"})


def places_of(tenant: Tenant) -> dict[str, list[str]]:
    """What parameters of paths stand for, by their names: things that this tenant has."""
    named = [str(NOOP["queue"]), tenant.mark, "noop", "nightly", WEBHOOK]
    return {
        "job_id": [str(job_id) for job_id in tenant.jobs.ids],
        "operation_id": [str(tenant.jobs.operation_id)],
        "delivery_id": [str(tenant.jobs.delivery_id)],
        "worker_id": [str(tenant.worker_id)],
        "key_id": [tenant.key_id],
        "name": [*named, tenant.name],
        "key": ["k"],
        "token": [tenant.token],
        "fingerprint": ["0123456789abcdef"],
    }


def paths(template: str, places: Mapping[str, list[str]]) -> list[str]:
    """The paths of a route with each value of its first parameter."""
    parameters = re.findall(r"\{(\w+)\}", template)
    if not parameters:
        return [template]
    rest = {name: places[name][0] for name in parameters[1:]}
    return [template.format(**rest | {parameters[0]: value}) for value in places[parameters[0]]]


def queries_of(path: str) -> list[str]:
    """What is asked of a list besides all of it."""
    if path == "/jobs":
        searched = ["payload=mark-of-", "error=secret", "tag=mark-of-acme", "tag=mark-of-beta"]
        return [f"?{query}" for query in [*searched, "queue=noop", "status=failed", "status=completed"]]
    return [""]


def everything(tenant: Tenant) -> Iterator[tuple[str, testing.Result]]:
    """Every answer that a tenant can read of the API, about its own things and all that it can list."""
    for method, template in OPERATIONS:
        for path in paths(template, places_of(tenant)) if method == "GET" else ():
            for query in queries_of(path):
                yield path + query, tenant.client.simulate_get(path + query)


def pages(tenant: Tenant, router: KeyRouter) -> Iterator[tuple[str, testing.Result]]:
    """Every page and file of the dashboard that a tenant can look at."""
    browser = DashboardClient(testing.TestClient(router))
    entered = browser.post("/dashboard/login", key=tenant.key)
    assert (entered.status_code, entered.headers["Location"]) == (303, f"/ns/{tenant.name}/dashboard")
    browser = signed_in(browser, router, tenant.name)
    places = tenant.jobs.places | {"keys": [tenant.key_id], "namespaces": [tenant.name]}
    places["queues"] = [str(NOOP["queue"]), tenant.mark]
    places["workers"] = [str(tenant.worker_id)]
    places["schedules"] = ["nightly", tenant.mark]
    for template in page_routes():
        for address in addresses(template, places):
            yield address, browser.get(address)
    others = {route.template for route in routes() if "GET" in route.methods} - set(page_routes())
    for template in sorted(others):
        if template.endswith((".json", ".jsonl")):
            yield template, browser.get(template + ("?queue=default" if "queue" in template else ""))


def signed_in(browser: DashboardClient, router: KeyRouter, name: str) -> DashboardClient:
    """The same browser, at the dashboard of a namespace."""
    there = DashboardClient(testing.TestClient(router), f"/ns/{name}")
    there.cookies = browser.cookies
    return there


def foreign_in(answers: Iterator[tuple[str, testing.Result]], other: Tenant) -> dict[str, str]:
    """The addresses whose answers tell of another tenant, and what they tell."""
    told = {}
    signs = [other.mark, other.key_id, f"/ns/{other.name}", f"_ns_{other.name}"]
    for address, answer in answers:
        # What was asked for comes back in links and in problems, and is no news.
        text = (answer.text + str(answer.headers)).replace(address, "")
        asked = address.partition("?")[2]
        for sign in signs:
            if sign in text and sign not in asked:
                told[address] = sign
    return told


@pytest.fixture(params=[NAMES, NAMES[::-1]], ids=["acme looks", "beta looks"])
def pair(request: pytest.FixtureRequest, tenants: dict[str, Tenant]) -> tuple[Tenant, Tenant]:
    """Who looks, and the other one."""
    one, other = request.param
    return tenants[one], tenants[other]


def test_no_answer_tells_of_the_other(pair: tuple[Tenant, Tenant]) -> None:
    """Of no operation, and each tells of its own, so that this could fail."""
    looks, other = pair
    answers = list(everything(looks))
    # No server is before the applications here that could stream; what streams hold has a test of its own.
    silent = {address for address, answer in answers if answer.status_code == 503}
    assert silent <= {"/events", *(f"/jobs/{job_id}/stream" for job_id in looks.jobs.ids)}
    assert {address for address, answer in answers if answer.status_code >= 500} == silent
    assert foreign_in(iter(answers), other) == {}
    own = foreign_in(iter(answers), looks)
    assert {"/jobs?queue=noop", "/queues", "/schedules", "/keys", "/audit", "/workers"} <= set(own)
    listed = next(answer for address, answer in answers if address == "/namespaces").json
    assert [one["name"] for one in listed] == [looks.name]


def test_no_page_tells_of_the_other(pair: tuple[Tenant, Tenant], router: KeyRouter) -> None:
    """Nor its files, its charts and its header."""
    looks, other = pair
    answers = list(pages(looks, router))
    statuses = {address: answer.status_code for address, answer in answers}
    assert statuses.pop("/dashboard/create?type=charge_card") == 404
    for address in ("/dashboard/namespaces", f"/dashboard/namespaces/{looks.name}"):
        assert statuses.pop(address) == 404
    assert {address: status for address, status in statuses.items() if status not in {200, 400}} == {}
    assert foreign_in(iter(answers), other) == {}
    assert len(foreign_in(iter(answers), looks)) > 5


def test_no_event_is_of_the_other(pair: tuple[Tenant, Tenant]) -> None:
    """Whoever listens hears of its own namespace alone."""
    looks, other = pair
    with closing(looks.goqueue.listen("job.created", seconds=20)) as heard:
        ids = [
            tenant.client.simulate_post("/jobs/create", json=NOOP | {"tags": [tenant.mark]}).json["id"]
            for tenant in (other, looks)
        ]
        event = next(heard)
    assert event.job_id == ids[1]
    assert other.mark not in str(event)


def test_what_is_the_others_is_not_there(pair: tuple[Tenant, Tenant]) -> None:
    """Every operation about one thing answers 404 for what only the other has, never 403."""
    looks, other = pair
    only_there = places_of(other)
    only_there["name"] = [other.mark]
    del only_there["fingerprint"], only_there["key"]
    wrong = {}
    for method, template in OPERATIONS:
        first = re.findall(r"\{(\w+)\}", template)[:1]
        if not first or first[0] not in only_there or (method, template) == ("PUT", "/schedules/{name}"):
            continue  # that makes one of this name here
        name = other.name if template.startswith("/namespaces") else None
        places = only_there | {"key": ["k"]} | ({"name": [name]} if name else {})
        for path in paths(template, places):
            answer = ask(looks.client, method, path, BODIES.get((method, template)))
            if answer.status_code != 404:
                wrong[method, path] = answer.status_code
    assert wrong == {}


def test_no_prefix_leads_to_the_other(pair: tuple[Tenant, Tenant]) -> None:
    """Every operation below the other's prefix is not there; below its own it is the same as without."""
    looks, other = pair
    statuses = {
        ask(looks.client, method, f"/ns/{other.name}{path}").status_code
        for method, template in OPERATIONS
        for path in paths(template, places_of(other))
    }
    assert statuses == {404}
    job = f"/jobs/{looks.jobs.ids[0]}"
    below = looks.client.simulate_get(f"/ns/{looks.name}{job}")
    assert (below.status_code, below.text) == (200, looks.client.simulate_get(job).text)
    assert looks.client.simulate_get(f"/ns/default{job}").status_code == 404


def test_an_admin_of_the_installation_enters_all(
    home: GoQueue, router: KeyRouter, tenants: dict[str, Tenant]
) -> None:
    """By their prefixes; for other keys of it they are not there."""
    admin = client_with(router, home.keys.create("operator", "admin").text)
    lesser = client_with(router, home.keys.create("shop", "operator").text)
    for tenant in tenants.values():
        path = f"/ns/{tenant.name}/jobs/{tenant.jobs.ids[0]}"
        assert admin.simulate_get(path).status_code == 200
        assert lesser.simulate_get(path).status_code == 404
        assert lesser.simulate_get(f"/namespaces/{tenant.name}").status_code == 404
    assert admin.simulate_get(f"/jobs/{tenants['acme'].jobs.ids[0]}").status_code == 404
    listed = {one["name"]: one["kind"] for one in admin.simulate_get("/namespaces").json}
    assert listed == {"two_namespaces": "database", "acme": "schema", "beta": "schema"}
    assert [one["name"] for one in lesser.simulate_get("/namespaces").json] == ["two_namespaces"]


def test_an_admin_of_some_queues_enters_no_namespace(
    home: GoQueue, router: KeyRouter, tenants: dict[str, Tenant]
) -> None:
    """Nor makes or lists any: it may do all to its own queues, and nothing that is about everything."""
    client = client_with(router, home.keys.create("mail", "admin", queues=["mail"]).text)
    for tenant in tenants.values():
        assert client.simulate_get(f"/ns/{tenant.name}/queues").status_code == 404
    assert client.simulate_get("/queues").status_code == 200
    assert client.simulate_post("/namespaces", json={"name": "new"}).status_code == 403


def test_a_key_opens_no_application_of_another_namespace(
    settings: Settings, tenants: dict[str, Tenant]
) -> None:
    """Also without the router before it: an API of one namespace alone, and one of a release before."""
    for name, opens in (("acme", {"acme"}), ("beta", {"beta"}), (None, set[str]())):
        with open_goqueue(settings.within(name)) as goqueue:
            client = testing.TestClient(app_of(goqueue))
            for tenant in tenants.values():
                answer = client.simulate_get("/queues", headers={"Authorization": f"Bearer {tenant.key}"})
                assert answer.status_code == (200 if tenant.name in opens else 401)


def test_metrics_of_the_installation_name_nothing_of_its_namespaces(
    home: GoQueue, router: KeyRouter, tenants: dict[str, Tenant]
) -> None:
    """What its processes counted is of all, and told to no namespace; queues of others are not named."""
    scraper = client_with(router, home.keys.create("prometheus", "metrics").text)
    text = scraper.simulate_get("/metrics").text
    assert 'jobs_created_total{queue="other"}' in text
    assert "namespace_quota" not in text
    for tenant in tenants.values():
        assert tenant.mark not in text
        assert "jobs_created_total" not in tenant.client.simulate_get("/metrics").text


BODIES: dict[tuple[str, str], Any] = {
    ("POST", "/webhooks/{name}/redeliver"): {"since": "2026-01-01T00:00:00Z"},
    ("POST", "/jobs"): NOOP,
    ("POST", "/jobs/create"): NOOP | {"unique": {"key": "one"}},
    ("POST", "/jobs/batch"): {"jobs": [NOOP]},
    ("POST", "/jobs/retry"): {"created_after": "2020-01-01T00:00:00Z"},
    ("POST", "/jobs/cancel"): {"created_after": "2020-01-01T00:00:00Z"},
    ("PATCH", "/jobs/{job_id}"): {"payload": {"text": "changed"}},
    ("PUT", "/jobs/{job_id}/status"): {"status": "failed"},
    ("PUT", "/queues/{name}"): {"concurrency": 2},
    ("PUT", "/queues/{name}/keys/{key}"): {"weight": 2},
    ("PUT", "/types/{name}"): {"concurrency": 2},
    ("POST", "/schedules"): {"name": "other", "cron": "0 4 * * *", **NOOP},
    ("PUT", "/schedules/{name}"): {"cron": "0 5 * * *", **NOOP},
    ("POST", "/bulk-operations"): {"action": "delete", "filter": {"queue": "noop", "status": "failed"}},
    ("POST", "/queues/{name}/lease"): {"worker": "new", "types": ["noop"]},
    ("POST", "/keys"): {"name": "new", "scopes": ["admin"]},
}


def ask(client: testing.TestClient, method: str, path: str, body: Any = None) -> testing.Result:
    """A request with the body that its operation takes, or an empty one."""
    rest = {"json": {} if body is None else body} if method in {"POST", "PUT", "PATCH"} else {}
    return client.simulate_request(method, path, **rest)


def rows_of(database: Database) -> dict[str, list[str]]:
    """Every row of every table of a schema, as text; when keys were used is no change."""
    with database.autocommit() as connection:
        tables = connection.exec_driver_sql(
            "SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace "
            "AND relkind IN ('r', 'p') AND NOT relispartition ORDER BY relname"
        ).scalars()
        return {
            table: sorted(connection.exec_driver_sql(f"SELECT t::text FROM {table} AS t").scalars())
            for table in list(tables)
            if table not in {"api_keys", "dashboard_sessions", "service_secrets"}
        }


def test_no_operation_changes_anything_of_the_other(pair: tuple[Tenant, Tenant], home: GoQueue) -> None:
    """All of them, about everything that there is under the same names; neither of the installation's."""
    looks, other = pair
    before, before_home = rows_of(other.goqueue.database), rows_of(home.database)
    keys = other.goqueue.keys.list()
    own = rows_of(looks.goqueue.database)
    done = set()
    for method, template in sorted(OPERATIONS, key=lambda key: (key[0] == "DELETE", key[0])):
        if method == "GET":
            continue
        for path in paths(template, places_of(looks) | {"key_id": ["a" * 12]}):
            answer = ask(looks.client, method, path, BODIES.get((method, template)))
            assert answer.status_code not in {401, 500}, (method, path, answer.text)
            if answer.status_code < 300:
                done.add((method, template))
    assert set(BODIES) <= done
    assert {("POST", "/queues/{name}/resume"), ("POST", "/workers/{worker_id}/stop")} <= done
    assert rows_of(other.goqueue.database) == before
    assert rows_of(home.database) == before_home
    assert [key.id for key in other.goqueue.keys.list()] == [key.id for key in keys]
    assert rows_of(looks.goqueue.database) != own
