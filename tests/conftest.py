"""Real servers for every test: one PostgreSQL and one Valkey a session, a fresh database a test.

They are the embedded ones, or, with `--servers=containers`, PostgreSQL and Redis in containers.
"""

from __future__ import annotations

import gc
import itertools
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
import structlog
from pydantic import SecretStr
from redis.connection import AbstractConnection

from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.dev.embedded import EmbeddedPostgres, EmbeddedValkey
from goqueue.engine.runway.runway import Runway
from goqueue.migrations.upgrade import upgrade
from tests.support.database.small_partitions import put_into_partitions
from tests.support.factories import JobFactory
from tests.support.house.declared_metrics import refuse_undeclared
from tests.support.servers.bare_runway import BareRunway
from tests.support.servers.pgbouncer import EmbeddedPgBouncer
from tests.support.session_folder import SessionFolder, remove_left_folders
from tests.support.shared_database import TESTED_HOST

if TYPE_CHECKING:
    from tests.support.servers.containers import ContainerPostgres, ContainerRedis

TEMPLATE = "goqueue_template"

#: A file system in memory, where the machine has one with this much room: the servers of the tests write
#: whole databases, and on a disk a test waits for that longer than for anything else.
MEMORY_FOLDER = Path("/dev/shm")
MEMORY_FREE_BYTES = 6 * 2**30

#: Where the process that began a session has its folder; those that share its tests have none of their own.
SESSION_FOLDER = pytest.StashKey[SessionFolder]()

#: How long a thread that a test has told to end may take.
THREAD_END_SECONDS = 10.0

_numbers = itertools.count(1)

# How fast a machine draws examples is no property of the code: a test failed by that alone, on a loaded one.
hypothesis.settings.register_profile(
    "goqueue", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("goqueue")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let whoever runs the tests choose the servers that most of them use."""
    kinds = ("embedded", "containers")
    parser.addoption("--servers", choices=kinds, default="embedded", help="which servers")
    parser.addoption("--pooler", action="store_true", help="reach PostgreSQL through PgBouncer")
    parser.addoption("--partitions", action="store_true", help="jobs are in partitions of a handful each")


def _let_loggers_ask_again() -> None:
    """Let loggers ask for their configuration each time, from before the first import on.

    `goqueue.actors`, and commands that a test runs in this process, configure them as for a process of its
    own, where each keeps what it found first: what it logs afterwards could not be captured any more.
    """
    configure = structlog.configure

    def configure_without_cache(**options: Any) -> None:
        configure(**options | {"cache_logger_on_first_use": False})

    structlog.configure = configure_without_cache  # type: ignore[assignment]
    configure_without_cache()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Give this session a temporary folder of its own.

    pytest's default one lies in a folder of all sessions, which each new session closes to other users again.
    Under root, PostgreSQL runs as another user: a second session would take the data from under the first.
    What earlier sessions left is removed.
    """
    _let_loggers_ask_again()
    if config.option.basetemp is None:
        for parent in (MEMORY_FOLDER, Path(tempfile.gettempdir())):
            remove_left_folders(parent)
        folder = SessionFolder(_folder_in_memory())
        # pytest makes this one anew, which would leave the lock behind.
        config.option.basetemp = str(folder.path / "pytest")
        config.stash[SESSION_FOLDER] = folder


def _folder_in_memory() -> Path | None:
    """Where files need no disk; None: this machine has no such folder, or not enough room there."""
    try:
        has_room = shutil.disk_usage(MEMORY_FOLDER).free >= MEMORY_FREE_BYTES
    except OSError:
        return None
    return MEMORY_FOLDER if has_room and os.access(MEMORY_FOLDER, os.W_OK) else None


def pytest_sessionstart() -> None:
    """Let every metric that nobody declared fail."""
    refuse_undeclared()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Remove the folder, unless a test failed: until the next session somebody may want to look."""
    folder = session.config.stash.get(SESSION_FOLDER, None)
    if folder is not None:
        if exitstatus == pytest.ExitCode.OK:
            folder.remove()
        folder.close()


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
def postgres(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EmbeddedPostgres | ContainerPostgres]:
    """The PostgreSQL of the session, with a migrated template database."""
    started: AbstractContextManager[EmbeddedPostgres | ContainerPostgres]
    if pytestconfig.getoption("servers") == "containers":
        from tests.support.servers.containers import postgres_container  # noqa: PLC0415  (slow, and hardly ever needed)

        started = postgres_container()
    else:
        # A test's database lives for a moment: what a crash would lose is not worth a flush. Tests of crashes
        # start servers of their own.
        started = EmbeddedPostgres(tmp_path_factory.mktemp("postgres"), settings={"fsync": "off"})
    with started as server:
        server.create_database(TEMPLATE)
        database = Database(Settings(database_url=SecretStr(server.url_for(TEMPLATE))))
        upgrade(database)
        if pytestconfig.getoption("partitions"):
            put_into_partitions(database)
        database.close()
        yield server


@pytest.fixture(scope="session")
def valkey(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EmbeddedValkey | ContainerRedis]:
    """The Valkey (or Redis) of the session; tests share it under different namespaces."""
    started: AbstractContextManager[EmbeddedValkey | ContainerRedis]
    if pytestconfig.getoption("servers") == "containers":
        from tests.support.servers.containers import redis_container  # noqa: PLC0415

        started = redis_container()
    else:
        started = EmbeddedValkey(tmp_path_factory.mktemp("valkey"))
    with started as server:
        yield server


@pytest.fixture(scope="session")
def pooler(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory, postgres: EmbeddedPostgres
) -> Iterator[EmbeddedPgBouncer | None]:
    """PgBouncer before the PostgreSQL of the session, where the tests are to go through one."""
    if not pytestconfig.getoption("pooler"):
        yield None
        return
    with EmbeddedPgBouncer(tmp_path_factory.mktemp("pgbouncer"), postgres.url) as server:
        server.give_role_a_timeout()
        yield server


@pytest.fixture
def overrides() -> dict[str, Any]:
    """Settings that a test changes: it overrides this fixture."""
    return {}


@pytest.fixture
def settings(
    postgres: EmbeddedPostgres,
    valkey: EmbeddedValkey,
    pooler: EmbeddedPgBouncer | None,
    overrides: dict[str, Any],
) -> Iterator[Settings]:
    """Settings of an empty database and an unused namespace."""
    name = f"test_{next(_numbers)}"
    postgres.create_database(name, template=TEMPLATE)
    yield Settings(
        **{
            "database_url": SecretStr((pooler or postgres).url_for(name)),
            "database_direct_url": SecretStr(postgres.url_for(name)) if pooler else None,
            "redis_url": SecretStr(valkey.url),
            "namespace": name,
            "allowed_hosts": (TESTED_HOST,),
            "worker_metrics_port": 0,
            "scheduler_metrics_port": 0,
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
def bare_runway(settings: Settings) -> Iterator[BareRunway]:
    """The same, as Redis has them."""
    bare = BareRunway(settings)
    yield bare
    bare.close()


@pytest.fixture
def crowd(settings: Settings, database: Database) -> Iterator[Database]:
    """Connections for fifty threads, on a machine that is busy with other tests; `database` is emptied."""
    assert database
    patient = settings.model_copy(update={"database_connect_timeout_seconds": 60})
    connections = Database(patient, pool_size=20)
    yield connections
    connections.close()


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
