"""Configurations that somebody has: each works, or is one line that says what is wrong."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from pydantic import SecretStr

import goqueue
from goqueue.config.settings import Settings, environment_of, load_settings
from goqueue.db.database import Database
from goqueue.dev.embedded import EmbeddedValkey
from goqueue.errors import ConfigurationError
from goqueue.migrations.upgrade import upgrade
from goqueue.ops.checks import problems_of
from tests.support.engine import QUICK, Engine, process_of


def run(
    settings: Settings, *arguments: str, python: tuple[str, ...] = (), **environment: str
) -> subprocess.CompletedProcess[bytes]:
    """Run the command in a process of its own."""
    return subprocess.run(
        [sys.executable, *python, "-m", "goqueue", *arguments],
        env=environment_of(settings) | environment,
        capture_output=True,
        check=False,
    )


def one_job(settings: Settings) -> Any:
    """The result of a job that ran under these settings."""
    with process_of(settings) as broker:

        @goqueue.actor
        def double(number: int) -> int:
            return number * 2

        with Engine(broker) as engine:
            return engine.wait_for(goqueue.enqueue(double, {"number": 4})).result


def test_redis_may_be_a_socket(settings: Settings, tmp_path: Path) -> None:
    """A URL of a Unix socket works for everything that Redis is asked for."""
    socket = tmp_path / "redis.sock"
    with EmbeddedValkey(tmp_path / "valkey", settings={"unixsocket": str(socket)}):
        told = {"redis_url": SecretStr(f"unix://{socket}?db=1"), **QUICK}
        assert problems_of(settings.model_copy(update=told)) == []
        assert one_job(settings.model_copy(update=told)) == 8


@pytest.mark.parametrize("way", ["options", "search_path"])
def test_the_options_of_the_database_url_hold(settings: Settings, way: str) -> None:
    """A schema and other options of the URL are kept beside what GoQueue itself sets."""
    url = settings.database_url.get_secret_value()
    plain = Database(settings)
    with plain.autocommit() as connection:
        connection.exec_driver_sql('CREATE SCHEMA "own schema"')
    plain.close()
    query = quote('-c work_mem=7MB -c search_path="own\\ schema"') if way == "options" else None
    path = quote('"own schema"')
    told = f"options={query}" if query else f"search_path={path}&options=-cwork_mem%3D7MB"
    own = settings.model_copy(update={"database_url": SecretStr(f"{url}?{told}"), **QUICK})
    database = Database(own)
    upgrade(database)
    with database.autocommit() as connection:
        shown = [
            connection.exec_driver_sql(f"SHOW {name}").scalar() for name in ("work_mem", "jit", "timezone")
        ]
    assert shown == ["7MB", "off", "UTC"]
    assert problems_of(own) == []
    assert one_job(own) == 8
    with database.autocommit() as connection:
        own_jobs = connection.exec_driver_sql('SELECT count(*) FROM "own schema".jobs').scalar()
        other_jobs = connection.exec_driver_sql("SELECT count(*) FROM public.jobs").scalar()
    database.close()
    assert (own_jobs, other_jobs) == (1, 0)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("REDIS_URL", "redis://127.0.0.1:99999/0", "port"),
        ("REDIS_URL", "redis://127.0.0.1:port/0", "host:port"),
        ("REDIS_URL", "redis://127.0.0.1:0/0", "host:port"),
        ("REDIS_URL", "redis://127.0.0.1/zero", "number of a database"),
        ("REDIS_URL", "redis://127.0.0.1/-1", "number of a database"),
        ("REDIS_URL", "redis://127.0.0.1/0/1", "number of a database"),
        ("REDIS_URL", "redis://127.0.0.1?db=x", "a number"),
        ("REDIS_URL", "redis://127.0.0.1,127.0.0.2", "one host"),
        ("REDIS_URL", "redis://127.0.0.1?nonsense=1", "nonsense"),
        ("REDIS_URL", "redis://127.0.0.1?socket_timeout=soon", "seconds"),
        ("REDIS_URL", "redis://127.0.0.1?retry_on_timeout=true", "retry_on_timeout"),
        ("REDIS_URL", "redis://127.0.0.1?ssl_ca_certs=/x", "ssl_ca_certs"),
        ("REDIS_URL", "unix://", "path of a socket"),
        ("REDIS_URL", "unix:///x?db=x", "a number"),
        ("REDIS_URL", "redis+cluster://127.0.0.1:70000", "host:port"),
        ("DATABASE_URL", "postgresql://127.0.0.1:99999/x", "a port"),
        ("DATABASE_URL", "postgresql://127.0.0.1:port/x", "a port"),
        ("DATABASE_URL", "postgresql://127.0.0.1:0/x", "a port"),
        ("DATABASE_URL", "postgresql://a:1,b:99999/x", "a port"),
        ("DATABASE_URL", "postgresql://a/x?port=99999", "a port"),
        ("DATABASE_URL", "postgresql://[::1]:99999/x", "a port"),
    ],
)
def test_a_url_that_leads_nowhere_is_one_line(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, expected: str
) -> None:
    """What no server can be reached by is told before anything is tried."""
    monkeypatch.setenv(f"GOQUEUE_{name}", value)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    (problem,) = caught.value.problems
    assert problem.startswith(f"GOQUEUE_{name}: ")
    assert expected in problem


@pytest.mark.parametrize(
    "value",
    [
        "postgresql://a,b:5433,[::1]:5434/x",
        "postgresql:///x?host=/run&port=5433",
        "postgresql://u:p%40@a:5432/x",
    ],
)
def test_a_url_of_libpq_is_taken(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """Several hosts, sockets and encoded passwords are libpq's own forms."""
    monkeypatch.setenv("GOQUEUE_DATABASE_URL", value)
    assert load_settings().database_url.get_secret_value() == value


def test_servers_that_refuse_are_one_line(settings: Settings) -> None:
    """A database number that Redis has not, and an option that libpq has not, are lines of `check`."""
    redis = settings.model_copy(update={"redis_url": SecretStr(f"{settings.redis_url.get_secret_value()}99")})
    done = run(redis, "check")
    assert done.returncode == 2
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("goqueue: GOQUEUE_REDIS_URL: Redis: ")
    assert run(redis, "api", "--check", "--wait", "0").returncode == 2
    url = settings.database_url.get_secret_value()
    database = settings.model_copy(update={"database_url": SecretStr(f"{url}?nonsense=1")})
    done = run(database, "check")
    assert done.returncode == 2
    assert [line for line in done.stderr.decode().splitlines() if "nonsense" in line]
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    "source", ["raise SystemExit(3)", "import sys; sys.exit('no')", "raise RuntimeError", "x ="]
)
def test_a_module_of_actors_that_ends_the_program_is_one_line(
    settings: Settings, tmp_path: Path, source: str
) -> None:
    """What importing a user's module raises is a line of `check`."""
    (tmp_path / "own_actors.py").write_text(source)
    own = settings.model_copy(update={"actors": ("own_actors",)})
    done = run(own, "check", PYTHONPATH=str(tmp_path))
    assert done.returncode == 2
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("goqueue: GOQUEUE_ACTORS: cannot import 'own_actors': ")


C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}

#: What each command ends with; of a job that is not there there is nothing to explain.
COMMANDS = {
    "--help": 0,
    "check": 0,
    "migrate": 0,
    "explain 1": 1,
    "alert-rules": 0,
    "api --check": 0,
    "worker --check": 0,
}

#: All of them in one process: starting Python is most of what a command costs.
RUN_ALL = """
import sys
from goqueue.cli import main
for command in sys.argv[1:]:
    try:
        code = main(command.split())
    except SystemExit as end:
        code = end.code
    print(f"\\nended: {command}: {code or 0}", flush=True)
"""


@pytest.mark.parametrize("kind", ["optimised", "8 bits", "ASCII"])
def test_no_command_needs_docstrings_or_unicode(settings: Settings, kind: str) -> None:
    """Under `python -OO`, and where the terminal has eight bits or seven, every command says what it says."""
    environment = {
        "optimised": {},
        "8 bits": C_LOCALE | {"PYTHONIOENCODING": "latin-1"},
        "ASCII": C_LOCALE | {"PYTHONIOENCODING": "ascii"},
    }[kind]
    options = ["-OO"] if kind == "optimised" else []
    done = subprocess.run(
        [sys.executable, *options, "-c", RUN_ALL, *COMMANDS],
        env=environment_of(settings) | environment,
        capture_output=True,
        check=False,
    )
    ends = re.findall(r"^ended: (.+): (.+)$", done.stdout.decode("latin-1"), re.MULTILINE)
    assert {command: int(code) for command, code in ends} == COMMANDS, done.stderr
    assert b"Traceback" not in done.stderr
    assert b"Logging error" not in done.stderr


WITHOUT_DOCSTRINGS = """
from goqueue import errors
for error in [errors.GoQueueError, errors.IdempotencyConflictError, errors.DatabaseUnavailableError]:
    assert str(error())
print(str(errors.UnavailableError()))
import goqueue.wsgi
"""


def test_errors_have_a_text_without_docstrings(settings: Settings) -> None:
    """An error without a message has one under `python -OO`, too, and the API loads."""
    done = subprocess.run(
        [sys.executable, "-OO", "-c", WITHOUT_DOCSTRINGS],
        env=environment_of(settings),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "UnavailableError"), done.stderr


def test_a_log_line_reaches_a_terminal_of_any_encoding(settings: Settings) -> None:
    """A character that the terminal lacks is written as its number."""
    source = (
        "import structlog;"
        "from goqueue.config.settings import load_settings;"
        "from goqueue.observability.logging import configure_logging;"
        "configure_logging(load_settings(log_format='console')); structlog.get_logger().warning('späť …')"
    )
    done = subprocess.run(
        [sys.executable, "-c", source],
        env=environment_of(settings) | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
        capture_output=True,
        check=False,
    )
    assert b"sp\\xe4\\u0165 \\u2026" in done.stderr
    assert b"Logging error" not in done.stderr
