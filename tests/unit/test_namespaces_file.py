"""The file of namespaces: whose servers a process works with, and what is wrong with the file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from goqueue.cli import main
from goqueue.config.namespaces import SERVER_SETTINGS, schema_of_namespace
from goqueue.config.settings import Settings, belong_to, environment_of, load_settings
from goqueue.errors import ConfigurationError
from goqueue.instance import GoQueue

FILE = """
[acme]
database_url = "postgresql://goqueue:hunter2@db-1/acme"
redis_url = "redis://redis-1"
read_database_url = "postgresql://replica-1/acme"

[beta]
database_url = "postgresql://db-2/beta"
database_pool_size = 3
"""


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine that runs the tests."""
    for name in list(os.environ):
        if name.startswith("GOQUEUE_"):
            monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of two namespaces, which the environment names; the process belongs to the first."""
    path = tmp_path / "namespaces.toml"
    path.write_text(FILE)
    monkeypatch.setenv("GOQUEUE_NAMESPACES_FILE", str(path))
    monkeypatch.setenv("GOQUEUE_NAMESPACE", "acme")
    return path


def shown(settings: Settings) -> dict[str, Any]:
    """What the file may say of the servers of these settings, as text."""
    values = {name: getattr(settings, name) for name in SERVER_SETTINGS}
    return {
        name: value.get_secret_value() if hasattr(value, "get_secret_value") else value
        for name, value in values.items()
    }


@pytest.mark.usefixtures("file")
def test_a_process_has_the_servers_of_its_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    """They come before the environment's, and the name is the prefix of its keys in Redis."""
    monkeypatch.setenv("GOQUEUE_DATABASE_URL", "postgresql://elsewhere/x")
    settings = load_settings()
    assert settings.namespace == "acme"
    assert shown(settings)["database_url"] == "postgresql://goqueue:hunter2@db-1/acme"
    assert shown(settings)["redis_url"] == "redis://redis-1"


@pytest.mark.usefixtures("file")
def test_what_the_file_does_not_say_is_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    """But no other way to a database: that of another one would lead to the jobs of others."""
    monkeypatch.setenv("GOQUEUE_REDIS_URL", "redis://shared")
    monkeypatch.setenv("GOQUEUE_READ_DATABASE_URL", "postgresql://replica-of-somebody/x")
    monkeypatch.setenv("GOQUEUE_WORKER_THREADS", "5")
    beta = load_settings().of_namespace("beta")
    assert shown(beta)["redis_url"] == "redis://shared"
    assert shown(beta)["read_database_url"] is None
    assert (beta.database_pool_size, beta.worker_threads, beta.namespace) == (3, 5, "beta")


@pytest.mark.usefixtures("file")
def test_a_child_process_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets the name and the file, and nothing of one namespace that it could take for another's."""
    monkeypatch.setenv("GOQUEUE_REDIS_URL", "redis://shared")
    parent = load_settings(worker_threads=3)
    for name in list(os.environ):
        monkeypatch.delenv(name)
    for name, value in environment_of(parent).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GOQUEUE_REDIS_URL", "redis://shared")
    child = load_settings()
    assert "GOQUEUE_DATABASE_URL" not in os.environ
    assert shown(child) == shown(parent.of_namespace("acme"))
    assert shown(child.of_namespace("beta")) == shown(parent.of_namespace("beta"))


@pytest.mark.usefixtures("file")
def test_a_goqueue_is_made_for_a_namespace() -> None:
    """In Python by its name; nothing connects."""
    with GoQueue(load_settings(), namespace="beta") as goqueue:
        assert goqueue.settings.namespace == "beta"
        assert goqueue.settings.database_pool_size == 3
    with pytest.raises(ConfigurationError, match="expected one of acme, beta, got 'gamma'"):
        GoQueue(load_settings(), namespace="gamma")


def test_commands_take_the_namespace(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--namespace` is the environment's GOQUEUE_NAMESPACE, for the command and all that it starts."""
    assert file.exists()
    assert main(["--namespace", "beta", "namespaces"]) == 0
    assert capsys.readouterr().out == "acme\nbeta\n"
    assert load_settings().namespace == "beta"
    assert main(["--namespace", "gamma", "namespaces"]) == 2
    assert "GOQUEUE_NAMESPACE: expected one of acme, beta, got 'gamma'" in capsys.readouterr().err


def test_every_secret_of_the_file_is_one(file: Path) -> None:
    """No line shows it, and a log line that has it is masked."""
    assert file.exists()
    settings = load_settings()
    assert "hunter2" not in f"{settings!r} {settings.masked()}"
    assert any("hunter2" in secret for secret in settings.secrets())


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "expected at least one table, as [name]"),
        ("[acme]\n", "acme: expected a database_url"),
        ("acme = 1\n", "acme: expected a table, as [acme]"),
        ("[acme", "expected TOML: "),
        (
            f"{FILE}[gamma]\ndatabase_url = 'postgresql://db-2/beta'\n",
            "gamma: expected a database of its own",
        ),
        (f"{FILE}worker_threads = 3\n", "beta: worker_threads is no setting of its servers"),
        ("['..']\ndatabase_url = 'postgresql://a/b'\n", "'..': expected up to 63 letters"),
        ("['a/b']\ndatabase_url = 'postgresql://a/b'\n", "'a/b': expected up to 63 letters"),
        (f"[{'a' * 64}]\ndatabase_url = 'postgresql://a/b'\n", "expected up to 63 letters"),
    ],
    ids=["empty", "no database", "no table", "no toml", "shared", "not of servers", "dots", "slash", "long"],
)
def test_what_is_wrong_in_the_file_is_told(file: Path, text: str, wrong: str) -> None:
    """With its path and the namespace, before anything is connected to."""
    file.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert any(
        line.startswith(f"GOQUEUE_NAMESPACES_FILE: {file}: ") and wrong in line
        for line in caught.value.problems
    )


@pytest.mark.parametrize("namespace", ["acme", "beta"])
def test_wrong_values_are_told_whoever_starts(
    file: Path, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every process looks at the whole file, and no problem quotes a value."""
    monkeypatch.setenv("GOQUEUE_NAMESPACE", namespace)
    file.write_text(
        f"{FILE}redis_url = 'http://:hunter3@x'\n[gamma]\ndatabase_url = 'mysql://u:hunter3@x'\n"
        "database_pool_size = 0\n"
    )
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    told = "\n".join(caught.value.problems)
    assert "GOQUEUE_NAMESPACES_FILE: beta: GOQUEUE_REDIS_URL: " in told
    assert "GOQUEUE_NAMESPACES_FILE: gamma: GOQUEUE_DATABASE_URL: " in told
    assert "GOQUEUE_NAMESPACES_FILE: gamma: GOQUEUE_DATABASE_POOL_SIZE: " in told
    assert "hunter" not in told


def test_a_file_that_is_not_there_is_told(file: Path) -> None:
    """With the name that it was looked for under."""
    file.unlink()
    with pytest.raises(ConfigurationError, match="No such file"):
        load_settings()


def test_without_a_file_there_is_one_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name is no more than the prefix of the keys in Redis; others are inside of its database."""
    monkeypatch.setenv("GOQUEUE_NAMESPACE", "mine")
    settings = load_settings()
    assert settings.of_all_namespaces() == {"mine": settings}
    other = settings.of_namespace("other")
    assert (other.schema_name, other.key_prefix) == ("mine_ns_other", "mine:other")
    for name in ("mine", "default"):
        assert settings.of_namespace(name).schema_name is None
    for name in ("Other", "-other", "o" * 33, ""):
        with pytest.raises(ConfigurationError, match="GOQUEUE_DATABASE_NAMESPACE: expected up to 32 small"):
            settings.of_namespace(name)


def test_commands_take_a_namespace_inside_of_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no file, for the command and all that it starts."""
    monkeypatch.delenv("GOQUEUE_NAMESPACES_FILE", raising=False)
    monkeypatch.setenv("GOQUEUE_DATABASE_NAMESPACE", "beta")
    belong_to("acme")
    child = load_settings()
    assert (child.database_namespace, child.namespace) == ("acme", "goqueue")
    assert environment_of(child)["GOQUEUE_DATABASE_NAMESPACE"] == "acme"
    assert "GOQUEUE_DATABASE_NAMESPACE" not in environment_of(child.within(None))
    belong_to("default")
    assert load_settings().database_namespace is None


def test_the_schema_of_a_namespace_has_a_name_that_is_kept_whole() -> None:
    """However long the two names are, that of its audit log as well; and no two have the same."""
    names = [schema_of_namespace("g" * 60, name) for name in ("a" * 32, "a" * 31, "b")]
    assert len(set(names)) == 3
    assert max(len(f"{name}_audit") for name in names) <= 63


def test_a_namespace_inside_of_the_database_avoids_the_pooler() -> None:
    """One that gives each transaction another session would lead to the jobs of others."""
    pooled = Settings(
        database_url=SecretStr("postgresql://pooler/x"),
        database_direct_url=SecretStr("postgresql://direct/x"),
    )
    own = pooled.within("acme")
    assert (own.has_pooler, own.database_url.get_secret_value()) == (False, "postgresql://direct/x")
