"""Bearer keys."""

from __future__ import annotations

import hashlib

import pytest
from falcon import testing

from goqueue.api.frame.security import refuse_open_bind
from goqueue.config.settings import Settings
from goqueue.errors import ConfigurationError
from tests.support import shared_database

module_settings = shared_database.module_settings

KEYS = ["first key", "second"]
HASHES = tuple(hashlib.sha256(key.encode()).hexdigest() for key in KEYS)


@pytest.fixture
def settings(module_settings: Settings) -> Settings:
    """Two keys are configured."""
    return module_settings.model_copy(update={"api_keys": HASHES})


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_a_known_key_opens(client: testing.TestClient, scheme: str, key: str) -> None:
    """Each configured key is accepted."""
    headers = {"Authorization": f"{scheme} {key}"}
    assert client.simulate_get("/health/db", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Basic first key",
        f"Bearer {HASHES[0]}",
        "first key",
        "Bearer \xff\u20ac",
    ],
)
@pytest.mark.parametrize(("method", "path"), [("POST", "/jobs"), ("GET", "/queues"), ("GET", "/nosuch")])
def test_anything_else_is_401(
    client: testing.TestClient, method: str, path: str, authorization: str | None
) -> None:
    """Without a known key every route answers a 401 problem that says how to ask."""
    headers = {} if authorization is None else {"Authorization": authorization}
    result = client.simulate_request(method, path, headers=headers)
    assert result.status_code == 401
    assert result.headers["content-type"] == "application/problem+json"
    assert result.headers["www-authenticate"] == 'Bearer realm="goqueue"'


@pytest.mark.parametrize("path", ["/health", "/openapi.json"])
def test_some_routes_need_no_key(client: testing.TestClient, path: str) -> None:
    """A load balancer and a code generator need no key."""
    assert client.simulate_get(path).status_code == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost"])
def test_loopback_needs_no_keys(host: str) -> None:
    """An API that only this machine reaches may be open."""
    refuse_open_bind(Settings(api_host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.com", "", "::ffff:1.2.3.4"])
def test_any_other_address_needs_keys(host: str) -> None:
    """An API that others reach refuses to start without keys, and starts with them."""
    with pytest.raises(ConfigurationError, match="GOQUEUE_API_KEYS"):
        refuse_open_bind(Settings(api_host=host))
    refuse_open_bind(Settings(api_host=host, api_keys=HASHES))
