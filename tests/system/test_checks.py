"""The checks before serving, against servers that are right, wrong and away."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from pydantic import SecretStr

from goqueue.config.settings import Settings, environment_of
from goqueue.db.database import Database
from goqueue.dev.embedded import EmbeddedPostgres, EmbeddedValkey, free_port
from goqueue.errors import ConfigurationError, StartupError
from goqueue.migrations.upgrade import downgrade
from goqueue.ops.checks import check_database, check_redis, ensure_ready, problems_of
from goqueue.ops.namespace_checks import ensure_one_ready

BROKEN_MODULES = {"raises_at_import": "raise RuntimeError('no\\n luck')", "no_python": "def (:"}


@pytest.fixture
def evicting_valkey(valkey: EmbeddedValkey) -> Iterator[EmbeddedValkey]:
    """The session's Valkey with another policy, for one test."""
    with redis.Redis.from_url(valkey.url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        yield valkey
        client.config_set("maxmemory-policy", "noeviction")


def run(command: str, settings: Settings, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `goqueue` as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "goqueue", *command.split()],
        env=environment_of(settings) | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def unreachable(**settings: Any) -> Settings:
    """Settings of servers that are not there."""
    return Settings(
        database_url=SecretStr(f"postgresql://user:secret@127.0.0.1:{free_port()}/goqueue"),
        redis_url=SecretStr(f"redis://127.0.0.1:{free_port()}/0"),
        **settings,
    )


def test_nothing_is_wrong_with_good_settings(settings: Settings) -> None:
    """A migrated database, a Redis that does not evict and importable actors are no problem."""
    assert problems_of(settings) == []


def test_every_problem_is_told_at_once(evicting_valkey: EmbeddedValkey) -> None:
    """A server that is away, a wrong policy, an open bind and modules that are missing are told together."""
    settings = unreachable(api_host="0.0.0.0", actors=("no_such_module",)).model_copy(
        update={"redis_url": SecretStr(evicting_valkey.url)}
    )
    database, policy, actors, bind = problems_of(settings)
    assert database.startswith("PostgreSQL: connection failed")
    assert policy == "Redis: expected the maxmemory-policy noeviction, got allkeys-lru"
    assert actors.startswith("GOQUEUE_ACTORS: cannot import 'no_such_module': ModuleNotFoundError")
    assert bind.startswith("GOQUEUE_API_KEYS: expected at least one key")


def test_a_schema_that_is_behind_is_told(settings: Settings, database: Database) -> None:
    """A database without the schema of this release names the command that mends it."""
    downgrade(database, "base")
    (problem,) = problems_of(settings)
    assert problem == "the database has no schema yet: run `goqueue migrate`"
    with psycopg.connect(settings.database_url.get_secret_value()) as connection:
        connection.execute("INSERT INTO alembic_version VALUES ('0000')")
    (problem,) = problems_of(settings)
    assert problem.startswith("the schema is at 0000, and this release needs ")


def test_a_schema_that_is_ahead_is_fine(settings: Settings) -> None:
    """During a deployment the old release starts on the new schema."""
    with psycopg.connect(settings.database_url.get_secret_value()) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    check_database(settings)


def test_waiting_ends_with_the_reason(valkey: EmbeddedValkey) -> None:
    """PostgreSQL that does not come up in time is one clear line."""
    settings = unreachable().model_copy(update={"redis_url": SecretStr(valkey.url)})
    with pytest.raises(StartupError, match=r"PostgreSQL: connection failed.*\(waited 0.1 s\)"):
        ensure_ready(settings, [], wait_seconds=0.1)


def test_serving_starts_without_redis(settings: Settings) -> None:
    """Redis that is away does not keep a process from starting: jobs are kept without it."""
    away = settings.model_copy(update={"redis_url": unreachable().redis_url})
    ensure_ready(away, [], wait_seconds=0)


def test_serving_does_not_start_on_a_redis_that_evicts(
    settings: Settings, evicting_valkey: EmbeddedValkey
) -> None:
    """What waiting does not mend is refused at once."""
    assert evicting_valkey.is_running()
    with pytest.raises(ConfigurationError, match="noeviction"):
        ensure_ready(settings, [], wait_seconds=30)
    with pytest.raises(ConfigurationError, match="noeviction"):
        check_redis(settings)


def test_broken_actor_modules_are_one_line_each(settings: Settings, tmp_path: Path) -> None:
    """`goqueue check` names every module that cannot be imported, without a traceback."""
    for name, code in BROKEN_MODULES.items():
        (tmp_path / f"{name}.py").write_text(code)
    actors = ",".join([*BROKEN_MODULES, "no_such"])
    done = run("check", settings, GOQUEUE_ACTORS=actors, PYTHONPATH=str(tmp_path))
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert lines[0] == "goqueue: GOQUEUE_ACTORS: cannot import 'raises_at_import': RuntimeError: no luck"
    assert [line.split("'")[1] for line in lines] == [*BROKEN_MODULES, "no_such"]


def test_check_prints_the_values_without_secrets(valkey: EmbeddedValkey) -> None:
    """`goqueue check` prints what is in force, passwords masked, also when something is wrong."""
    done = run("check", unreachable())
    assert done.returncode == 2
    assert "secret" not in done.stdout + done.stderr
    assert "GOQUEUE_WORKER_THREADS=8\n" in done.stdout
    assert "postgresql://**********@127.0.0.1" in done.stdout
    assert valkey.is_running()


@pytest.mark.parametrize("command", ["api --port 0", "worker", "scheduler"])
def test_nothing_serves_without_a_schema(
    command: str, postgres: EmbeddedPostgres, settings: Settings
) -> None:
    """Each serving command refuses with one line and exit 2 when the schema does not come in time."""
    empty = settings.model_copy(update={"database_url": SecretStr(postgres.url)})
    done = run(f"{command} --wait 0", empty)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("goqueue: the database has no schema yet")
    assert "Traceback" not in done.stderr


def test_migrate_goes_up_and_down(postgres: EmbeddedPostgres, settings: Settings) -> None:
    """`goqueue migrate` brings an empty database to the schema; `--down` and again lead there, too."""
    postgres.create_database("cli_migrate")
    empty = settings.model_copy(update={"database_url": SecretStr(postgres.url_for("cli_migrate"))})
    for command in ("migrate", "migrate --down", "migrate", "check"):
        done = run(command, empty)
        assert done.returncode == 0, done.stderr
    postgres.drop_database("cli_migrate")


def file_of(tmp_path: Path, **urls: str) -> dict[str, Any]:
    """Settings of several namespaces, by the URLs of their databases; the process belongs to the first."""
    file = tmp_path / "namespaces.toml"
    file.write_text("".join(f'[{name}]\ndatabase_url = "{url}"\n' for name, url in urls.items()))
    return {"namespaces_file": str(file), "namespace": next(iter(urls))}


def test_a_check_looks_at_every_namespace(settings: Settings, tmp_path: Path) -> None:
    """`goqueue check` tells what is wrong with the servers of others, with their name before it."""
    url = settings.database_url.get_secret_value()
    changes = file_of(tmp_path, acme=url, beta=f"postgresql://user:secret@127.0.0.1:{free_port()}/goqueue")
    checked = run("check", settings.model_copy(update=changes))
    assert checked.returncode == 2
    (problem,) = checked.stderr.splitlines()
    assert problem.startswith("goqueue: beta: PostgreSQL: ")
    assert "secret" not in checked.stderr + checked.stdout


def test_a_command_works_on_the_namespace_that_it_is_told(
    settings: Settings, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    """`goqueue --namespace beta migrate` makes the tables there, and there alone."""
    name = f"{settings.namespace}_new"
    postgres.create_database(name)
    nobody = f"postgresql://127.0.0.1:{free_port()}/goqueue"
    changed = settings.model_copy(update=file_of(tmp_path, acme=nobody, beta=postgres.url_for(name)))
    migrated = run("--namespace beta migrate", changed)
    assert migrated.returncode == 0, migrated.stderr
    check_database(changed.of_namespace("beta"))
    assert run("migrate", changed).returncode == 2
    postgres.drop_database(name)


def test_an_api_needs_one_of_its_namespaces(settings: Settings, tmp_path: Path) -> None:
    """Whichever it is; without any it says of each why, and does not start."""
    gone = {name: f"postgresql://127.0.0.1:{free_port()}/goqueue" for name in ("acme", "beta")}
    there = settings.database_url.get_secret_value()
    changed = settings.model_copy(update=file_of(tmp_path, **gone))
    with pytest.raises(StartupError, match=r"no namespace is ready \(waited 0 s\): acme: .*; beta: "):
        ensure_one_ready(changed, [], wait_seconds=0)
    changed = settings.model_copy(update=file_of(tmp_path, acme=gone["acme"], beta=there))
    ensure_one_ready(changed, [], wait_seconds=0)


def test_an_api_of_namespaces_starts_without_redis(settings: Settings, tmp_path: Path) -> None:
    """As that of one: jobs are accepted, and start when it is there."""
    there = settings.database_url.get_secret_value()
    nobody = SecretStr(f"redis://127.0.0.1:{free_port()}/0")
    gone = f"postgresql://127.0.0.1:{free_port()}/goqueue"
    changes = file_of(tmp_path, acme=there, beta=gone) | {"redis_url": nobody}
    ensure_one_ready(settings.model_copy(update=changes), [], wait_seconds=0)
