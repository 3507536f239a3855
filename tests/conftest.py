"""Real servers for every test: one PostgreSQL and one Valkey a session, a fresh database a test."""

from __future__ import annotations

import gc
import itertools
import shutil
import socket
import tempfile
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from redis.connection import AbstractConnection

from goqueue.broker.runway import Runway
from goqueue.config import Settings
from goqueue.db import Database
from goqueue.embedded import EmbeddedPostgres, EmbeddedValkey
from goqueue.migrations.upgrade import upgrade
from tests.support.factories import JobFactory

TEMPLATE = "goqueue_template"

#: How long a thread that a test has told to end may take.
THREAD_END_SECONDS = 10.0

_numbers = itertools.count(1)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Give this session a temporary folder of its own.

    pytest's default one lies in a folder of all sessions, which each new session closes to other users again.
    Under root, PostgreSQL runs as another user: a second session would take the data from under the first.
    """
    if config.option.basetemp is None:
        config.option.basetemp = tempfile.mkdtemp(prefix="goqueue-tests-")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Remove the folder, unless a test failed and somebody may want to look."""
    if exitstatus == pytest.ExitCode.OK:
        shutil.rmtree(session.config.option.basetemp, ignore_errors=True)


@pytest.fixture(autouse=True)
def _no_thread_left_by_test() -> Iterator[None]:
    with _no_thread_left():
        yield


@pytest.fixture(autouse=True, scope="module")
def _no_thread_left_by_module() -> Iterator[None]:
    with _no_thread_left():
        yield


@contextmanager
def _no_thread_left() -> Iterator[None]:
    """Fail what leaves a thread for which Python waits at its end: pytest would never end."""
    before = set(threading.enumerate())
    yield
    left = [found for found in threading.enumerate() if found not in before and not found.daemon]
    for found in left:
        found.join(THREAD_END_SECONDS)
    left = [found for found in left if found.is_alive()]
    assert not left, f"threads left running: {left}"


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """The PostgreSQL of the session, with a migrated template database."""
    # A test's database lives for a moment: what a crash would lose is not worth a flush. Tests of crashes
    # start servers of their own.
    with EmbeddedPostgres(tmp_path_factory.mktemp("postgres"), settings={"fsync": "off"}) as server:
        server.create_database(TEMPLATE)
        database = Database(Settings(database_url=SecretStr(server.url_for(TEMPLATE))))
        upgrade(database)
        database.close()
        yield server


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    """The Valkey of the session; tests share it under different namespaces."""
    with EmbeddedValkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture
def overrides() -> dict[str, Any]:
    """Settings that a test changes: it overrides this fixture."""
    return {}


@pytest.fixture
def settings(
    postgres: EmbeddedPostgres, valkey: EmbeddedValkey, overrides: dict[str, Any]
) -> Iterator[Settings]:
    """Settings of an empty database and an unused namespace."""
    name = f"test_{next(_numbers)}"
    postgres.create_database(name, template=TEMPLATE)
    yield Settings(
        **{
            "database_url": SecretStr(postgres.url_for(name)),
            "redis_url": SecretStr(valkey.url),
            "namespace": name,
            **overrides,
        }
    )
    postgres.drop_database(name)


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """Connections to the test's database."""
    database = Database(settings)
    yield database
    database.close()


@pytest.fixture
def runway(settings: Settings) -> Iterator[Runway]:
    """The test's runways."""
    runway = Runway(settings)
    yield runway
    runway.close()


@pytest.fixture
def make_job(database: Database) -> JobFactory:
    """Makes jobs in any state, with overrides."""
    return JobFactory(database)


@pytest.fixture
def data_folder(tmp_path: Path) -> Path:
    """A folder for servers that a test starts itself."""
    return tmp_path


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make what a test wrote fit for the way from its process to pytest's: half a surrogate pair is not."""
    report = yield
    report.sections = [
        (title, text.encode("utf-8", "backslashreplace").decode()) for title, text in report.sections
    ]
    return report


def pytest_unconfigure() -> None:
    """Close what tests of ended servers left open: Python would say so after pytest's closing line."""
    gc.collect()
    for found in gc.get_objects():
        if isinstance(found, AbstractConnection):
            found.disconnect()  # type: ignore[no-untyped-call]
        elif isinstance(found, socket.socket):
            found.close()
