"""Pages of other sites, in a browser on the machine of the service: they change nothing and read nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from falcon import inspect, testing

from goqueue.api.app import create_app
from goqueue.config.settings import Settings
from goqueue.dashboard.site import DASHBOARD
from goqueue.db.database import Database
from goqueue.engine.runway.runway import Runway
from tests.api.conftest import NOOP
from tests.api.test_security import HASHES, KEYS
from tests.support.shared_database import TESTED_HOST, emptied_database, module_settings

settings = module_settings
database = emptied_database

MakeClient = Callable[..., testing.TestClient]

ROUTES = [
    (method.method, route.path)
    for route in inspect.inspect_routes(create_app(Settings(), site=DASHBOARD))
    for method in route.methods
    if not method.internal
]
CHANGES = [(method, path) for method, path in ROUTES if method not in {"GET", "HEAD"}]

FOREIGN = [
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": f"http://{TESTED_HOST}.evil.example"},
    {"Origin": f"http://{TESTED_HOST}:3000"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site", "Origin": f"http://{TESTED_HOST}"},
    {"Sec-Fetch-Site": "no such value"},
]
OURS = [
    {},
    {"Origin": f"http://{TESTED_HOST}"},
    {"Origin": f"https://{TESTED_HOST}"},
    {"Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "none"},
]
REBOUND = [
    "evil.example",
    "evil.example:8000",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "evil.example@localhost",
    "localhost@evil.example",
    "[::1",
    "10.0.0.1",
    "169.254.169.254",
    "",
    ":8000",
    "localhost/evil.example",
]
LOOPBACK = ["localhost", "LOCALHOST:8000", "localhost.", "127.0.0.1", "127.0.0.1:1", "127.9.8.7", "[::1]:80"]


@pytest.fixture
def client_of(settings: Settings, database: Database, runway: Runway) -> MakeClient:
    """Makes clients of a service with other settings."""

    def make(**changes: Any) -> testing.TestClient:
        changed = settings.model_copy(update=changes)
        return testing.TestClient(create_app(changed, database=database, runway=runway, site=DASHBOARD))

    return make


def in_path(template: str) -> str:
    """An address of a route, of something that there is not."""
    return "/".join("1" if part.startswith("{") else part for part in template.split("/"))


@pytest.mark.parametrize(("method", "template"), CHANGES)
def test_no_change_is_taken_from_the_page_of_another_site(
    client_of: MakeClient, method: str, template: str
) -> None:
    """Every route that changes something refuses what a foreign page sends, as a browser marks it."""
    client = client_of()
    for headers in FOREIGN:
        result = client.simulate_request(method, in_path(template), headers=headers, body="{}")
        assert result.status_code == 403, (method, template, headers)


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_a_key_does_not_help_a_foreign_page(client_of: MakeClient, headers: dict[str, str]) -> None:
    """Where keys are configured the page of another site is refused as well, whatever it knows."""
    client = client_of(api_keys=HASHES)
    bearer = {"Authorization": f"Bearer {KEYS[0]}"}
    assert client.simulate_post("/jobs/create", json=NOOP, headers=bearer | headers).status_code == 403
    assert client.simulate_post("/jobs/create", json=NOOP, headers=bearer).status_code == 201


@pytest.mark.parametrize("headers", OURS, ids=str)
def test_our_pages_and_plain_clients_are_served(client_of: MakeClient, headers: dict[str, str]) -> None:
    """A client that is no browser, a typed address and our own pages create jobs as ever."""
    assert client_of().simulate_post("/jobs/create", json=NOOP, headers=headers).status_code == 201


@pytest.mark.parametrize("host", REBOUND)
def test_without_keys_no_other_name_is_answered(client_of: MakeClient, host: str) -> None:
    """A page that points its own name at the service (DNS rebinding) reads nothing, from any route."""
    client = client_of(allowed_hosts=())
    for method, template in ROUTES:
        result = client.simulate_request(method, in_path(template), headers={"Host": host}, body="{}")
        assert result.status_code == 421, (method, template)
    assert "GOQUEUE_ALLOWED_HOSTS" in client.simulate_get("/jobs", headers={"Host": host}).json["error"]


@pytest.mark.parametrize("host", LOOPBACK)
def test_loopback_is_answered_without_keys(client_of: MakeClient, host: str) -> None:
    """By every name and address that this machine has for itself, on any port."""
    assert client_of(allowed_hosts=()).simulate_get("/queues", headers={"Host": host}).status_code == 200


def test_other_names_can_be_allowed(client_of: MakeClient) -> None:
    """GOQUEUE_ALLOWED_HOSTS names them, whatever their case and port."""
    client = client_of(allowed_hosts=("queue.internal",))
    assert client.simulate_get("/queues", headers={"Host": "Queue.Internal:8000"}).status_code == 200
    assert client.simulate_get("/queues", headers={"Host": "other.internal"}).status_code == 421


def test_with_keys_any_name_is_answered(client_of: MakeClient) -> None:
    """Behind a proxy the service has names that it does not know; a page does not know the key."""
    client = client_of(api_keys=HASHES, allowed_hosts=())
    headers = {"Host": "queue.example.com", "Authorization": f"Bearer {KEYS[0]}"}
    assert client.simulate_get("/queues", headers=headers).status_code == 200


@pytest.mark.parametrize("value", ["http://queue.internal", "queue.internal:80", "*", "a b", "[::1]"])
def test_a_wrong_allowed_host_is_told(value: str) -> None:
    """Only names are hosts here: a scheme, a port or a pattern would never match."""
    with pytest.raises(ValueError, match="without a scheme and a port"):
        Settings(allowed_hosts=(value,))
