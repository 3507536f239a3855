"""The API before the namespaces inside of a database: which it serves, and what it holds of them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
from falcon import testing

from goqueue.access import key_ring, namespaces
from goqueue.api import key_routing
from goqueue.api.app import open_goqueue
from goqueue.api.key_routing import KeyRouter, create_key_router
from goqueue.config.settings import Settings
from goqueue.dev.embedded import EmbeddedPostgres, EmbeddedValkey
from goqueue.instance import GoQueue
from tests.api.conftest import NOOP
from tests.support.shared_database import own_settings
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def settings(postgres: EmbeddedPostgres, valkey: EmbeddedValkey) -> Iterator[Settings]:
    """An installation of the tests of this module, which needs keys."""
    with own_settings(
        postgres, valkey, "routing", api_keys_required=True, allowed_hosts=("falconframework.org",)
    ) as settings:
        yield settings


@pytest.fixture
def home(settings: Settings) -> Iterator[GoQueue]:
    """Another process that uses the installation."""
    goqueue = open_goqueue(settings)
    yield goqueue
    for one in goqueue.namespaces.every():
        goqueue.namespaces.delete(one.name, force=one.name)
    goqueue.close()


@pytest.fixture(autouse=True)
def brief_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is believed for a second is believed for a moment."""
    for module in (key_ring, namespaces):
        monkeypatch.setattr(module, "GOOD_FOR_SECONDS", 0.05)


@pytest.fixture
def router(settings: Settings) -> Iterator[KeyRouter]:
    """The API of a process."""
    made = create_key_router(settings)
    yield made
    made.close()


def ask(router: KeyRouter, key: str, path: str = "/jobs?queue=noop") -> int:
    """The status of an answer to a key."""
    client = testing.TestClient(router, headers={"Authorization": f"Bearer {key}"})
    return client.simulate_get(path).status_code


def _answers(router: KeyRouter, key: str, status: int) -> bool:
    return ask(router, key) == status


def test_what_another_process_makes_and_deletes_is_served_and_gone(router: KeyRouter, home: GoQueue) -> None:
    """Without a restart; a namespace that is made anew is another one, whose jobs begin at 1."""
    operator = home.keys.create("operator", "admin").text
    assert ask(router, operator, "/ns/acme/stats") == 404
    ids = []
    for _ in range(2):
        home.namespaces.create("acme")
        with GoQueue(home.settings, namespace="acme") as acme:
            key = acme.keys.create("shop", "admin").text
        wait_until(lambda: ask(router, operator, "/ns/acme/stats") == 200, 10, "the namespace to be served")
        wait_until(partial(_answers, router, key, 200), 10, "its key to be known")
        client = testing.TestClient(router, headers={"Authorization": f"Bearer {key}"})
        ids.append(client.simulate_post("/jobs/create", json=NOOP).json["id"])
        home.namespaces.delete("acme", force="acme")
        wait_until(partial(_answers, router, key, 401), 10, "its key to be nobody's")
        wait_until(lambda: ask(router, operator, "/ns/acme/stats") == 404, 10, "the namespace to be gone")
    assert ids == [1, 1]


def test_connections_of_a_namespace_that_nobody_asks_for_are_closed(
    router: KeyRouter, home: GoQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And opened again by whoever comes then."""
    monkeypatch.setattr(key_routing, "IDLE_SECONDS", 0.0)
    keys = {}
    for name in ("acme", "beta"):
        home.namespaces.create(name)
        with GoQueue(home.settings, namespace=name) as goqueue:
            keys[name] = goqueue.keys.create("shop", "admin").text
    for name in ("acme", "beta", "acme"):
        assert ask(router, keys[name]) == 200
        wait_until(partial(_only_sessions_of, home, name), 10, "the other's sessions to close")


def _only_sessions_of(home: GoQueue, name: str) -> bool:
    """Whether the API has no sessions with namespaces but those with this one."""
    asked = "SELECT application_name FROM pg_stat_activity WHERE application_name LIKE 'goqueue-api-%%'"
    with home.database.autocommit() as connection:
        return set(connection.exec_driver_sql(asked).scalars()) == {f"goqueue-api-{name}"}


@pytest.mark.parametrize(
    "path", ["/ns", "/ns/", "/ns//jobs", "/ns/ACME/jobs", "/ns/default", "/ns/routing/x"]
)
def test_odd_paths_lead_nowhere(router: KeyRouter, home: GoQueue, path: str) -> None:
    """Whoever may act everywhere is told that there is nothing."""
    assert ask(router, home.keys.create("operator", "admin").text, path) == 404


def test_bodies_of_nobody_are_not_read(router: KeyRouter, home: GoQueue) -> None:
    """Neither here nor below a prefix; those of a key of any namespace are, as their route allows."""
    home.namespaces.create("acme")
    with GoQueue(home.settings, namespace="acme") as acme:
        key = f"Bearer {acme.keys.create('shop', 'client').text}"
    largest = Settings().batch_max_bytes
    for path in ("/jobs/batch", "/ns/acme/jobs/batch"):
        assert router.body_limit("POST", path, "") == 0
        assert router.body_limit("POST", path, "Bearer gq_nobody") == 0
        assert router.body_limit("POST", path, key) == largest
    assert router.body_limit("POST", "/ns/acme/jobs/create", key) == Settings().job_max_bytes
