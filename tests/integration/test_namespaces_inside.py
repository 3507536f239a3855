"""Namespaces inside of a database: made, changed, deleted, and told apart by every connection."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from goqueue import cli
from goqueue.access import namespace_rows, namespaces
from goqueue.access.namespaces import Namespaces
from goqueue.access.quotas import QuotaChanges, Quotas
from goqueue.audit import audit_rows as audit
from goqueue.audit.audit_rows import AuditFilter
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.db.schema import problem_of
from goqueue.dev.embedded import EmbeddedPostgres, EmbeddedValkey
from goqueue.errors import (
    DatabaseUnavailableError,
    InvalidJobError,
    NamespaceConflictError,
    NamespaceNotFoundError,
)
from goqueue.instance import GoQueue
from goqueue.jobs import JobStatus, NewJob
from tests.support.factories import JobFactory, set_status
from tests.support.servers.bare_runway import BareRunway
from tests.support.shared_database import own_settings


@pytest.fixture(scope="module")
def settings(postgres: EmbeddedPostgres, valkey: EmbeddedValkey) -> Iterator[Settings]:
    """An installation of the tests of this module."""
    with own_settings(postgres, valkey, "inside") as settings:
        yield settings


@pytest.fixture
def home(settings: Settings) -> Iterator[GoQueue]:
    """The installation itself; what is left of its namespaces goes with the test."""
    with GoQueue(settings) as goqueue:
        yield goqueue
        for one in goqueue.namespaces.every():
            goqueue.namespaces.delete(one.name, force=one.name)
        with goqueue.database.autocommit() as connection:
            connection.exec_driver_sql("DELETE FROM namespaces")
            connection.exec_driver_sql("DELETE FROM api_keys")


def schemas(goqueue: GoQueue) -> list[str]:
    """The schemas of namespaces that there are."""
    with goqueue.database.autocommit() as connection:
        found = connection.exec_driver_sql(
            "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'inside!_ns!_%%' ESCAPE '!' ORDER BY nspname"
        )
        return list(found.scalars())


def entries(database: Database) -> list[tuple[str, str]]:
    """What the audit log of a schema says, the oldest first."""
    with database.autocommit() as connection:
        found = audit.page(connection, AuditFilter(), limit=100)
    return [(entry.action, entry.target) for entry in reversed(found)]


def test_a_namespace_is_made_whole_and_deleted_without_a_trace(home: GoQueue, settings: Settings) -> None:
    """Schemas, keys in Redis and API keys; its row in the audit log of the installation stays."""
    before = entries(home.database)
    made = home.namespaces.create("acme", Quotas(max_waiting_jobs=7, share=3), by="olga")
    assert (made.name, made.created_by, made.quotas) == ("acme", "olga", Quotas(7, share=3))
    assert schemas(home) == ["inside_ns_acme", "inside_ns_acme_audit"]
    with GoQueue(settings, namespace="acme") as acme:
        with acme.database.autocommit() as connection:
            assert problem_of(connection) is None
        key = acme.keys.create("shop", "client")
        job_id = acme.creator.one(NewJob("mail", "noop", "{}")).id
        acme.creator.flush()
        bare = BareRunway(acme.settings)
        assert bare.redis.keys("inside:acme:*")
        assert entries(acme.database) == [("key.create", f"key {key.key.id}")]
        acme.cancel(job_id)
    home.namespaces.delete("acme", by="olga")
    assert not bare.redis.keys("inside:acme:*")
    bare.close()
    assert schemas(home) == []
    assert home.key_ring.within(None).find(key.text) is None
    with pytest.raises(NamespaceNotFoundError):
        home.namespaces.get("acme")
    ended = [("namespace.create", "namespace acme"), ("namespace.delete", "namespace acme")]
    assert entries(home.database)[len(before) :] == ended


@pytest.mark.parametrize("name", ["default", "inside", "Acme", "-acme", "a" * 33, "a.b", 'a"b', "", None, 7])
def test_names_that_no_namespace_can_have(home: GoQueue, name: Any) -> None:
    """Nothing is made for them."""
    with pytest.raises((InvalidJobError, NamespaceConflictError)):
        home.namespaces.create(name)
    assert schemas(home) == []


def test_a_name_is_taken_once(home: GoQueue) -> None:
    """Of several who make the same one at the same time, one has made it."""
    told: list[str] = []

    def create() -> None:
        own = Namespaces(home.settings, home.database)
        try:
            own.create("acme")
            told.append("made")
        except NamespaceConflictError:
            told.append("there is one")

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(told) == ["made", *["there is one"] * 3]
    assert len(home.namespaces.every()) == 1


def test_what_was_half_made_is_gone_on_with(home: GoQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody serves it, and whoever makes it again comes to its end; so does whoever deletes it."""

    def fail(_settings: Settings) -> None:
        raise DatabaseUnavailableError

    for name in ("acme", "beta"):
        with monkeypatch.context() as patch:
            patch.setattr(namespaces, "_migrate", fail)
            with pytest.raises(DatabaseUnavailableError):
                home.namespaces.create(name)
    assert home.namespaces.every() == []
    assert home.namespaces.known() == {}
    assert home.namespaces.create("acme", Quotas(max_waiting_jobs=3)).quotas.max_waiting_jobs == 3
    home.namespaces.delete("beta")
    assert schemas(home) == ["inside_ns_acme", "inside_ns_acme_audit"]


def test_a_schema_of_somebody_else_is_left_alone(home: GoQueue) -> None:
    """Another installation in the same database, or a person, may have one of this name."""
    with home.database.autocommit() as connection:
        connection.exec_driver_sql("CREATE SCHEMA inside_ns_acme")
    with pytest.raises(NamespaceConflictError, match="not GoQueue's own"):
        home.namespaces.create("acme")
    with pytest.raises(NamespaceNotFoundError):
        home.namespaces.delete("acme", force="acme")
    assert schemas(home) == ["inside_ns_acme"]
    with home.database.autocommit() as connection:
        connection.exec_driver_sql("DROP SCHEMA inside_ns_acme")


def test_jobs_that_were_not_done_keep_a_namespace(home: GoQueue, settings: Settings) -> None:
    """Unless it is named once more; what is done does not."""
    home.namespaces.create("acme")
    with GoQueue(settings, namespace="acme") as acme:
        make_job = JobFactory(acme.database)
        make_job(JobStatus.COMPLETED)
        for status, counted in {
            JobStatus.QUEUED: (1, 0),
            JobStatus.BLOCKED: (1, 0),
            JobStatus.RUNNING: (0, 1),
        }.items():
            left = make_job(status)
            for force, error in ((None, NamespaceConflictError), ("beta", InvalidJobError)):
                with pytest.raises(error):
                    home.namespaces.delete("acme", force=force)
            assert home.namespaces.use_of("acme")[:2] == counted
            set_status(acme.database, left.id, JobStatus.COMPLETED)
        make_job()
    home.namespaces.delete("acme", force="acme")
    assert schemas(home) == []


def test_no_connection_is_of_another_schema(home: GoQueue, settings: Settings) -> None:
    """Of a namespace that is not there, or that a pooler has forgotten, there is none at all."""
    nobody = Database(settings.within("nobody"))
    with (
        pytest.raises(DatabaseUnavailableError, match="not in the schema inside_ns_nobody"),
        nobody.autocommit(),
    ):
        pass
    home.namespaces.create("acme")
    acme = Database(settings.within("acme"))
    with acme.autocommit() as connection:
        assert connection.exec_driver_sql("SELECT current_schema()").scalar() == "inside_ns_acme"
    home.namespaces.delete("acme")
    acme.close()
    with pytest.raises(DatabaseUnavailableError), acme.autocommit():
        pass


def test_changes_hold_and_are_noted(home: GoQueue) -> None:
    """What is not named stays, null takes a quota away, and the log has what changed alone."""
    home.namespaces.create("acme", Quotas(max_waiting_jobs=7, creates_per_second=2.5))
    changed = home.namespaces.change("acme", QuotaChanges(max_waiting_jobs=None, max_running_jobs=4))
    assert changed.quotas == Quotas(None, 2.5, None, 4)
    assert home.namespaces.known()["acme"].quotas == changed.quotas
    with home.database.autocommit() as connection:
        last = audit.page(connection, AuditFilter(action="namespace.change"), limit=1)[0]
    assert last.before == {"max_waiting_jobs": 7, "max_running_jobs": None}
    assert last.after == {"max_waiting_jobs": None, "max_running_jobs": 4}
    with pytest.raises(NamespaceNotFoundError):
        home.namespaces.change("beta", QuotaChanges(share=2))


def test_a_command_makes_and_migrates_them(
    home: GoQueue,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """All that a terminal can do with namespaces."""
    monkeypatch.setattr(cli, "load_settings", lambda **_: settings)

    def told(*arguments: str) -> str:
        assert cli.main(list(arguments)) == 0
        return capsys.readouterr().out

    quotas = ("--max-waiting-jobs", "9", "--creates-per-second", "0.5", "--share", "2")
    assert told("namespaces", "create", "acme", *quotas) == "the namespace acme is made\n"
    assert told("namespaces") == "inside\n"
    row = told("namespaces", "list").splitlines()[1].split("  ")
    assert [cell.strip() for cell in row if cell.strip()][3:] == ["9", "0.5", "-", "-", "2", "0", "0"]
    assert "-" in told("namespaces", "change", "acme", "--max-waiting-jobs", "none")
    assert home.namespaces.get("acme").quotas.max_waiting_jobs is None
    assert re.fullmatch(r"the schema is at (\d{4})\nacme: the schema is at \1\n", told("migrate"))
    assert cli.main(["namespaces", "change", "acme", "--share", "0"]) == 2
    monkeypatch.setattr(cli, "load_settings", lambda **_: settings.within("acme"))
    text = told("keys", "create", "shop", "client").strip()
    found = home.key_ring.within(None).find(text)
    assert found is not None
    assert (found.namespace, home.key_ring.find(text)) == ("acme", None)
    assert cli.main(["namespaces", "create", "beta"]) == 2
    monkeypatch.setattr(cli, "load_settings", lambda **_: settings)
    assert told("namespaces", "delete", "acme").startswith("the namespace acme is deleted")


def test_every_statement_of_a_deletion_is_of_one_transaction(
    home: GoQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who fails half-way has deleted nothing."""
    home.namespaces.create("acme")

    def fail(*_: object, **__: object) -> list[str]:
        raise DatabaseUnavailableError

    revoke: Callable[..., list[str]] = namespace_rows.revoke_keys
    monkeypatch.setattr(namespace_rows, "revoke_keys", fail)
    with pytest.raises(DatabaseUnavailableError):
        home.namespaces.delete("acme")
    assert len(schemas(home)) == 2
    assert home.namespaces.get("acme").name == "acme"
    monkeypatch.setattr(namespace_rows, "revoke_keys", revoke)
