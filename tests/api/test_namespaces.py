"""One API before several namespaces, called in this process: addresses, access, descriptions and pages."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from falcon import testing
from pydantic import SecretStr

from goqueue.api.frame.problems import CONTENT_TYPE
from goqueue.api.routing import SERVICE, NamespaceRouter, create_router
from goqueue.config.settings import Settings
from goqueue.dashboard.site import DASHBOARD
from goqueue.db.database import Database
from goqueue.db.outage import OutageAwareDatabase
from goqueue.dev.embedded import EmbeddedPostgres, free_port
from goqueue.errors import DatabaseUnavailableError
from goqueue.migrations.upgrade import upgrade
from tests.api.conftest import NOOP
from tests.conftest import TEMPLATE
from tests.support.dashboard.client import DashboardClient
from tests.support.dashboard.html import Element, elements_of
from tests.support.dashboard.pages import page_routes
from tests.support.factories import JobFactory
from tests.support.servers.clusters import own_postgres_in
from tests.support.waiting import wait_until

KEY = "gq_a-key-of-the-tests"
KEYED = {"api_keys": (hashlib.sha256(KEY.encode()).hexdigest(),)}
AUTHORIZED = {"Authorization": f"Bearer {KEY}"}

#: What a page leads to.
ADDRESSES = re.compile(r'(?:href|action|src|hx-get|data-source|data-copy-from)="([^"]*)"')


@pytest.fixture
def router(settings: Settings, postgres: EmbeddedPostgres, tmp_path: Path) -> Iterator[NamespaceRouter]:
    """The API before three: the test's, one with a database of its own, and one whose server is away."""
    other = f"{settings.namespace}_beta"
    postgres.create_database(other, template=TEMPLATE)
    file = tmp_path / "namespaces.toml"
    urls = {
        "acme": settings.database_url.get_secret_value(),
        "beta": postgres.url_for(other),
        "gamma": f"postgresql://127.0.0.1:{free_port()}/goqueue",
    }
    file.write_text("".join(f'[{name}]\ndatabase_url = "{url}"\n' for name, url in urls.items()))
    changed = settings.model_copy(update={"namespaces_file": str(file), "namespace": "acme"})
    made = create_router(changed, site=DASHBOARD)
    yield made
    made.close()
    postgres.drop_database(other)


@pytest.fixture
def client(router: NamespaceRouter) -> testing.TestClient:
    """A client of the API before all."""
    return testing.TestClient(router)


def create(client: testing.TestClient, place: str, **members: Any) -> testing.Result:
    """Create a no-op job."""
    return client.simulate_post(f"{place}/jobs/create", json=NOOP | members)


def test_addresses_keep_the_prefix(client: testing.TestClient) -> None:
    """Location and Link lead to where the request came; without a prefix they are as ever."""
    for place in ("/ns/beta", "/ns/acme", ""):
        created = create(client, place)
        assert created.headers["Location"] == f"{place}/jobs/{created.json['id']}"
        create(client, place)
        listed = client.simulate_get(f"{place}/jobs", params={"queue": NOOP["queue"], "limit": 1})
        link = re.fullmatch(r'<([^>]+)>; rel="?next"?', listed.headers["Link"])
        assert link is not None
        assert link[1].startswith(f"{place}/jobs?")
        following = client.simulate_get(link[1])
        assert [job["id"] for job in following.json] == [listed.json[0]["id"] - 1]
    schedule = {"name": "s", "cron": "* * * * *", **NOOP}
    assert (
        client.simulate_post("/ns/beta/schedules", json=schedule).headers["Location"]
        == "/ns/beta/schedules/s"
    )


def test_a_request_stays_in_its_namespace(client: testing.TestClient) -> None:
    """Ids, lists, keys and dependencies are those of one; a path without a name is the default's."""
    first = create(client, "/ns/beta", unique={"key": "one"}).json
    assert create(client, "/ns/beta", unique={"key": "one"}).status_code == 200
    assert create(client, "", unique={"key": "one"}).status_code == 201
    assert client.simulate_get("/jobs", params={"queue": NOOP["queue"]}).json[0]["id"] == first["id"] == 1
    create(client, "/ns/beta")
    refused = create(client, "", depends_on=[2])
    assert (refused.status_code, list(refused.json["fields"])) == (400, ["depends_on[0]"])
    for one in client.simulate_get("/namespaces").json:
        waiting = {"acme": 1, "beta": 2, "gamma": None}[one["name"]]
        assert (one["stats"] and one["stats"]["counts"]["ready"]) == waiting
    paused = client.simulate_post(f"/ns/beta/queues/{NOOP['queue']}/pause", json={})
    assert paused.status_code == 200
    assert not client.simulate_get(f"/queues/{NOOP['queue']}").json["paused"]


@pytest.mark.parametrize("path", ["/ns/nobody/jobs/1", "/ns/", "/ns/nobody", "/ns/ACME/jobs", "/ns/../jobs"])
def test_an_unknown_namespace_is_not_found(client: testing.TestClient, path: str) -> None:
    """The problem names none of those that there are."""
    answer = client.simulate_get(path)
    assert (answer.status_code, answer.headers["Content-Type"]) == (404, CONTENT_TYPE)
    assert answer.json["error"] == "there is no namespace of this name"


@pytest.mark.parametrize("overrides", [KEYED], ids=["keys"])
def test_keys_are_asked_for_before_a_namespace_is(client: testing.TestClient) -> None:
    """Who has none is refused alike whether there is such a namespace or not, and bodies are not read."""
    for path in (
        "/jobs/1",
        "/ns/beta/jobs/1",
        "/ns/nobody/jobs/1",
        "/namespaces",
        "/ns/beta/metrics",
        "/health/db",
    ):
        assert client.simulate_get(path).status_code == 401
    assert client.simulate_get("/ns/nobody/jobs/1", headers=AUTHORIZED).status_code == 404
    created = client.simulate_post("/ns/beta/jobs/create", json=NOOP, headers=AUTHORIZED)
    assert created.status_code == 201


@pytest.mark.parametrize("overrides", [KEYED], ids=["keys"])
def test_who_has_no_key_is_told_no_names(client: testing.TestClient) -> None:
    """Health and the description, which need none, count namespaces and name the default one at most."""
    wait_until(lambda: "warnings" in client.simulate_get("/health").json, 10, "the outage to be known")
    for path in ("/health", "/health/live", "/health/ready", "/openapi.json", "/dashboard/login"):
        answer = client.simulate_get(path)
        assert answer.status_code == 200
        assert not re.search(r"\b(beta|gamma)\b", answer.text)
    assert client.simulate_get("/health/ready").json["namespaces"] == {"ready": 2, "unavailable": 1}


@pytest.mark.parametrize("overrides", [{"api_rate_per_second": 0.001, "api_rate_burst": 3}], ids=["rate"])
def test_a_key_has_one_rate_for_all_namespaces(client: testing.TestClient) -> None:
    """What it asks of one counts for the others."""
    statuses = [
        client.simulate_get(path).status_code
        for path in ("/types", "/ns/beta/types", "/types", "/ns/beta/types")
    ]
    assert statuses == [200, 200, 200, 429]


def test_a_body_is_as_large_as_its_route_allows(router: NamespaceRouter) -> None:
    """Also below a prefix: the server asks before it reads."""
    settings = Settings()
    for place in ("", "/ns/beta"):
        assert router.body_limit("POST", f"{place}/jobs/create", "") == settings.job_max_bytes
        assert router.body_limit("POST", f"{place}/jobs/batch", "") == settings.batch_max_bytes


@pytest.mark.parametrize(
    ("path", "pool"),
    [
        ("/jobs", "acme"),
        ("/ns/nobody/jobs", "acme"),
        ("/ns/beta/jobs", "beta"),
        ("/ns/b%65ta/jobs", "beta"),
        ("/ns/beta/health/ready", "beta"),
        ("/health/ready", SERVICE),
        ("/metrics", SERVICE),
    ],
)
def test_a_namespace_has_threads_of_its_own(router: NamespaceRouter, path: str, pool: str) -> None:
    """However its name is written; and what is about all has others."""
    assert router.pool_of(path) == pool


def test_the_description_says_where_the_paths_begin(client: testing.TestClient) -> None:
    """Below a prefix it is the server's address; without one the prefix is a variable of a second address."""
    plain = client.simulate_get("/openapi.json").json
    assert [server["url"] for server in plain["servers"]] == ["/", "/ns/{namespace}"]
    assert plain["servers"][1]["variables"]["namespace"]["default"] == "acme"
    below = client.simulate_get("/ns/beta/openapi.json").json
    assert below["servers"] == [{"url": "/ns/beta"}]
    assert below["paths"] == plain["paths"]


def test_metrics_say_whose_they_are(client: testing.TestClient) -> None:
    """Gauges of all have the label; below a prefix there are those of one."""
    create(client, "/ns/beta")
    text = client.simulate_get("/metrics").text
    queue = NOOP["queue"]
    assert f'queue_depth{{namespace="beta",queue="{queue}"}} 1.0' in text
    assert text.count("# TYPE queue_depth gauge") == 1
    up = set(re.findall(r'database_up\{namespace="(\w+)"\} ([01])', text))
    assert up == {("acme", "1"), ("beta", "1"), ("gamma", "0")}
    assert set(re.findall(r'namespace="(\w+)"', client.simulate_get("/ns/beta/metrics").text)) == {"beta"}


def test_a_problem_names_the_namespace(client: testing.TestClient) -> None:
    """An operator sees in the answer, and in the log, which server it is about."""
    answer = client.simulate_get("/ns/gamma/jobs/1")
    assert (answer.status_code, answer.json["error"]) == (503, "namespace gamma: PostgreSQL does not answer.")
    everything = client.simulate_get("/health/db")
    assert everything.status_code == 503
    assert everything.json["error"].endswith("for the namespaces: gamma")


def test_pages_lead_to_their_own_namespace(router: NamespaceRouter, settings: Settings) -> None:
    """Every page below a prefix, with every link, form, chart and file in it."""
    client = testing.TestClient(router)
    create(client, "/ns/beta", tags=["tagged"])
    client.simulate_post("/ns/beta/schedules", json={"name": "s", "cron": "* * * * *", **NOOP})
    browser = DashboardClient(client)
    pages = [route for route in page_routes() if "{" not in route]
    pages += [
        "/dashboard/jobs/1",
        f"/dashboard/queues/{NOOP['queue']}",
        "/dashboard/schedules/s",
        "/dashboard/types/noop",
    ]
    for page in pages:
        answer = browser.get(f"/ns/beta{page}")
        assert answer.status_code in {200, 400}, page
        leads_to = [place for place in ADDRESSES.findall(answer.text) if place.startswith("/")]
        assert len(leads_to) > 10
        elsewhere = [place for place in leads_to if not place.startswith("/ns/beta/dashboard")]
        assert [place for place in elsewhere if not re.match(r"/ns/(acme|gamma)/dashboard", place)] == [], (
            page
        )
        assert 'data-base="/ns/beta"' in answer.text
    assert settings.namespace


def test_the_header_chooses_the_namespace(client: testing.TestClient) -> None:
    """A list of all, which leads to the same page of each, from the page of one thing to the overview."""
    browser = DashboardClient(client)
    for page, place in (("/dashboard/queues", "/dashboard/queues"), ("/dashboard/jobs/1", "/dashboard")):
        create(client, "/ns/beta")
        links = _choices(browser.get(f"/ns/beta{page}").text)
        assert [link.attributes["href"] for link in links] == [
            f"/ns/{name}{place}" for name in ("acme", "beta", "gamma")
        ]
        assert [link.text for link in links if "aria-current" in link.attributes] == ["beta"]


def test_a_change_on_a_page_stays_in_the_namespace(client: testing.TestClient) -> None:
    """The form goes to it, the answer leads back to its page, and the notice is shown there."""
    create(client, "/ns/beta")
    browser = DashboardClient(client, "/ns/beta")
    done = browser.post("/dashboard/jobs/1/cancel")
    assert (done.status_code, done.headers["Location"]) == (303, "/ns/beta/dashboard/jobs/1")
    assert client.simulate_get("/ns/beta/jobs/1").json["status"] == "cancelled"
    assert client.simulate_get("/jobs/1").status_code == 404
    assert 'class="notice"' in browser.get("/dashboard/jobs/1").text


@pytest.mark.parametrize("overrides", [KEYED], ids=["keys"])
def test_a_session_is_of_one_namespace(client: testing.TestClient) -> None:
    """Whoever signs in to one is led back there, sees the names, and has signed in to no other."""
    browser = DashboardClient(client)
    refused = browser.get("/ns/beta/dashboard/queues?sort=name")
    assert refused.headers["Location"] == "/ns/beta/dashboard/login?next=%2Fdashboard%2Fqueues%3Fsort%3Dname"
    assert 'class="namespaces"' not in browser.get("/ns/beta/dashboard/login").text
    beta = DashboardClient(client, "/ns/beta")
    entered = beta.post("/dashboard/login", key=KEY, next="/dashboard/queues?sort=name")
    assert (entered.status_code, entered.headers["Location"]) == (303, "/ns/beta/dashboard/queues?sort=name")
    assert list(beta.cookies) == ["goqueue_session_beta"]
    assert 'class="namespaces"' in beta.get("/dashboard/queues").text
    here = DashboardClient(client)
    here.cookies = beta.cookies
    assert here.get("/dashboard").status_code == 303
    assert here.get("/ns/acme/dashboard").status_code == 303


@pytest.fixture
def own_postgres(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A server that the test stops."""
    with own_postgres_in(tmp_path / "postgres") as server:
        yield server


def test_an_outage_is_waited_for_by_nobody(own_postgres: EmbeddedPostgres) -> None:
    """After the first who was cut off, everybody is refused without a connection, until it is back."""
    database = OutageAwareDatabase(Settings(database_url=SecretStr(own_postgres.url), namespace="beta"))
    make_job = JobFactory(database)
    make_job()
    own_postgres.stop("immediate")
    with pytest.raises(DatabaseUnavailableError):
        make_job()
    assert database.is_away
    for lend in (database.autocommit, database.transaction, database.connection):
        with (
            pytest.raises(DatabaseUnavailableError, match="the server of the namespace beta is away"),
            lend(),
        ):
            pass
    own_postgres.start()
    wait_until(lambda: not database.is_away, 20, "the outage to end")
    make_job()
    database.close()


def test_what_a_server_refuses_is_no_outage(database: Database, settings: Settings) -> None:
    """A statement that is wrong, and a session that the server ends, say nothing about the others."""
    aware = OutageAwareDatabase(settings)
    ended = "SELECT pg_terminate_backend(pg_backend_pid())"
    for statement in ("SELECT nonsense", "SELECT 1/0", ended):
        with pytest.raises(Exception, match="PostgreSQL"), aware.autocommit() as connection:
            connection.exec_driver_sql(statement)
        assert not aware.is_away
    with aware.autocommit() as connection:
        assert connection.exec_driver_sql("SELECT 1").scalar() == 1
    aware.close()
    upgrade(database)


def _choices(page: str) -> list[Element]:
    """The links of the list of namespaces in the header of a page, that to all of them left out."""
    links = elements_of(page).one("details", class_="namespaces").all("a")
    return [link for link in links if link.text != "all namespaces"]
