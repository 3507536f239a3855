"""The life of a key over REST: made, used, rotated, expired, revoked."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from falcon import testing

from goqueue.access import key_ring, key_rows
from goqueue.access.key_ring import KeyRing
from goqueue.access.keys import Keys, parse_key
from goqueue.api.app import create_app
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.engine.runway.runway import Runway
from goqueue.errors import ApiKeyConflictError, InvalidJobError
from tests.support.jobs import noop_jobs
from tests.support.shared_database import emptied_database, module_settings

module_settings = module_settings  # noqa: PLW0127  (a fixture)
database = emptied_database


class Clock:
    """Seconds that only a test moves."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        """What it shows."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The clock of a key ring."""
    return Clock()


@pytest.fixture
def keys(database: Database) -> Keys:
    """The keys of the installation."""
    return Keys(database)


@pytest.fixture
def ring(database: Database, clock: Clock) -> KeyRing:
    """What a process of the API knows of them."""
    return KeyRing((), database, clock=clock)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of keys that PostgreSQL was asked for."""
    asked: list[str] = []
    find = key_rows.find

    def noting(connection: Any, key_id: str) -> Any:
        asked.append(key_id)
        return find(connection, key_id)

    monkeypatch.setattr(key_rows, "find", noting)
    return asked


@pytest.fixture
def client(module_settings: Settings, database: Database, runway: Runway) -> testing.TestClient:
    """An API that needs a key."""
    settings = module_settings.model_copy(update={"api_keys_required": True})
    return testing.TestClient(create_app(settings, database=database, runway=runway))


def bearer(text: str) -> dict[str, str]:
    """The header that brings a key."""
    return {"Authorization": f"Bearer {text}"}


def test_a_key_is_shown_once(client: testing.TestClient, keys: Keys) -> None:
    """When it is made and when it is rotated; what is kept of its secret opens nothing."""
    admin = bearer(keys.create("ops", "admin").text)
    made = client.simulate_post("/keys", headers=admin, json={"name": "shop", "scopes": ["client"]})
    assert made.status_code == 201
    text, key_id = made.json["key"], made.json["id"]
    assert made.headers["location"] == f"/keys/{key_id}"
    assert text.startswith(f"gq_{key_id}_")
    assert made.json["scopes"] == ["jobs:create", "jobs:read", "payloads:read"]
    assert made.json["created_by"].startswith("ops (")
    secret = text.rpartition("_")[2]
    for path in ("/keys", f"/keys/{key_id}"):
        assert secret not in client.simulate_get(path, headers=admin).text
    assert client.simulate_get("/stats", headers=bearer(text)).status_code == 200
    stored = keys.get(key_id).secret_hash
    for wrong in (f"gq_{key_id}_{stored}", f"gq_{key_id}_{stored[:43]}", text[:-1], f"{text}x", stored):
        assert client.simulate_get("/stats", headers=bearer(wrong)).status_code == 401, wrong


def test_no_two_keys_are_alike(keys: Keys) -> None:
    """Neither their ids nor their secrets, and both are read back out of the text."""
    texts = [keys.create("one", "client").text for _ in range(20)]
    parts = [parse_key(text) for text in texts]
    assert None not in parts
    assert len({part[0] for part in parts if part}) == len({part[1] for part in parts if part}) == 20


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"scopes": []}, "scopes"),
        ({"scopes": ["jobs:fly"]}, "scopes"),
        ({"name": ""}, "name"),
        ({"queues": []}, "queues"),
        ({"expires_in_seconds": 0}, "expires_in_seconds"),
        ({"expires_in_seconds": 60, "expires_at": "2030-01-01T00:00:00Z"}, "expires_at"),
        ({"secret": "mine"}, "secret"),
    ],
)
def test_what_is_wrong_is_told_by_field(
    client: testing.TestClient, keys: Keys, members: dict[str, Any], field: str
) -> None:
    """And nothing is made."""
    admin = bearer(keys.create("ops", "admin").text)
    document = {"name": "shop", "scopes": ["client"]} | members
    refused = client.simulate_post("/keys", headers=admin, json=document)
    assert refused.status_code == 400
    assert any(name.partition("[")[0] == field for name in refused.json["fields"])
    assert [key.name for key in keys.list()] == ["ops"]


def test_a_revoked_key_opens_nothing(
    client: testing.TestClient, keys: Keys, ring: KeyRing, clock: Clock
) -> None:
    """In another process after a second, at the next look of this one; and it stays listed."""
    made = keys.create("shop", "admin")
    assert ring.find(made.text) is not None
    assert keys.revoke(made.key.id, by="ops").revoked_by == "ops"
    assert keys.revoke(made.key.id, by="somebody else").revoked_by == "ops"
    clock.now += 0.9
    assert ring.find(made.text) is not None
    clock.now += 0.2
    assert ring.find(made.text) is None
    assert client.simulate_get("/stats", headers=bearer(made.text)).status_code == 401
    assert [key.state for key in keys.list()] == ["revoked"]
    with pytest.raises(ApiKeyConflictError, match="revoked"):
        keys.rotate(made.key.id)


def test_an_expired_key_opens_nothing(database: Database, keys: Keys, ring: KeyRing, clock: Clock) -> None:
    """By PostgreSQL's clock."""
    made = keys.create("shop", "client", expires_in_seconds=3600)
    assert ring.find(made.text) is not None
    with database.autocommit() as connection:
        connection.exec_driver_sql("UPDATE api_keys SET expires_at = now() - interval '1 second'")
    clock.now += 1.1
    assert ring.find(made.text) is None
    assert keys.get(made.key.id).state == "expired"
    with pytest.raises(ApiKeyConflictError, match="expired"):
        keys.rotate(made.key.id)


def test_a_rotation_overlaps(database: Database, keys: Keys, ring: KeyRing, clock: Clock) -> None:
    """Both secrets are good for as long as was said; after two rotations, only the last one before is."""
    first = keys.create("shop", "client")
    second = keys.rotate(first.key.id, overlap_seconds=3600)
    assert second.key.id == first.key.id
    assert second.text != first.text
    assert ring.find(first.text) is not None
    assert ring.find(second.text) is not None
    third = keys.rotate(first.key.id, overlap_seconds=3600)
    clock.now += 1.1
    assert [ring.find(made.text) is not None for made in (first, second, third)] == [False, True, True]
    with database.autocommit() as connection:
        connection.exec_driver_sql("UPDATE api_keys SET previous_until = now() - interval '1 second'")
    clock.now += 1.1
    assert [ring.find(made.text) is not None for made in (first, second, third)] == [False, False, True]
    fourth = keys.rotate(first.key.id, overlap_seconds=0)
    clock.now += 1.1
    assert ring.find(third.text) is None
    assert ring.find(fourth.text) is not None
    with pytest.raises(InvalidJobError, match="overlap_seconds"):
        keys.rotate(first.key.id, overlap_seconds=-1)


def test_a_create_costs_no_query_for_its_key(
    client: testing.TestClient, keys: Keys, looks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One look serves all requests of its second, and one note of its use those of a minute."""
    made = keys.create("shop", "client")
    notes: list[str] = []
    monkeypatch.setattr(key_rows, "note_use", lambda _, key_id, **__: notes.append(key_id))
    monkeypatch.setattr(key_ring, "GOOD_FOR_SECONDS", 3600.0)
    job = {"queue": noop_jobs.noop.queue_name, "payload": {}}
    for _ in range(20):
        created = client.simulate_post("/jobs/create", headers=bearer(made.text), json=job)
        assert created.status_code == 201
    assert looks == [made.key.id]
    assert notes == [made.key.id]


def test_unknown_keys_are_remembered_as_well(ring: KeyRing, looks: list[str], clock: Clock) -> None:
    """Whoever tries one again and again asks PostgreSQL once a second."""
    text = f"gq_{'a' * 12}_{'b' * 43}"
    assert [ring.find(text) for _ in range(5)] == [None] * 5
    assert len(looks) == 1
    clock.now += 1.1
    ring.find(text)
    assert len(looks) == 2


def test_when_it_was_used_is_written_once_a_minute(
    database: Database, keys: Keys, ring: KeyRing, clock: Clock
) -> None:
    """By all processes together."""
    made = keys.create("shop", "client")
    assert made.key.last_used_at is None
    ring.find(made.text)
    used = keys.get(made.key.id).last_used_at
    assert used is not None
    assert abs((used - datetime.now(UTC)).total_seconds()) < 60
    clock.now += 61
    ring.find(made.text)
    KeyRing((), database).find(made.text)
    assert keys.get(made.key.id).last_used_at == used
    with database.autocommit() as connection:
        connection.exec_driver_sql("UPDATE api_keys SET last_used_at = now() - interval '2 minutes'")
    clock.now += 61
    ring.find(made.text)
    assert keys.get(made.key.id).last_used_at != used


def test_what_a_server_may_read_of_a_body(
    ring: KeyRing, keys: Keys, clock: Clock, looks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decided without PostgreSQL: no key opens nothing, a known one what it may, and an unknown one once."""
    notes: list[str] = []
    monkeypatch.setattr(key_rows, "note_use", lambda _, key_id, **__: notes.append(key_id))
    made = keys.create("shop", "client")
    assert not ring.may_know("")
    assert not ring.may_know("Bearer something else")
    assert not ring.may_know(f"Basic {made.text}")
    assert ring.may_know(f"Bearer {made.text}")
    unknown = f"gq_{'a' * 12}_{'b' * 43}"
    assert ring.may_know(f"Bearer {unknown}")
    ring.find(unknown)
    ring.find(made.text)
    asked = len(looks), len(notes)
    assert not ring.may_know(f"Bearer {unknown}")
    assert ring.may_know(f"Bearer {made.text}")
    assert not ring.may_know(f"Bearer {made.text[:-1]}{'a' if made.text[-1] != 'a' else 'b'}")
    clock.now += 1.1
    assert ring.may_know(f"Bearer {unknown}")
    assert (len(looks), len(notes)) == asked
