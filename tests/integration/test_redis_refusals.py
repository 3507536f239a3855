"""A Redis that refuses or hangs: its connections are replaced, and no client waits for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from signal import SIGCONT, SIGSTOP

import psutil
import pytest
import redis
from falcon import testing
from pydantic import SecretStr

from goqueue.api.app import create_app
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.dev.embedded import HOST, EmbeddedValkey, free_port
from goqueue.engine.runway.runway import Message, Runway
from goqueue.errors import RedisUnavailableError
from tests.support.jobs import noop_jobs
from tests.support.servers.tcp_proxy import TcpProxy
from tests.support.waiting import wait_until

QUEUE = noop_jobs.noop.queue_name
NOOP = {"queue": QUEUE, "payload": {}}

#: The longest that one request may take while Redis hangs, on a loaded machine.
REQUEST_SECONDS = 1.5

OPERATIONS: dict[str, Callable[[Runway], object]] = {
    "submit": lambda runway: runway.submit("q", [Message(1, 0)]),
    "dispatch": lambda runway: runway.dispatch("q", [Message(1, 0)], limit=9, closed=False),
    "fetch": lambda runway: runway.fetch("q", 1, block_seconds=0.1),
    "put_back": lambda runway: runway.put_back("q", [Message(1, 0)]),
    "acknowledge": lambda runway: runway.acknowledge("q", ["1.0"]),
    "close_gate": lambda runway: runway.close_gate("q"),
    "wake_dispatcher": lambda runway: runway.wake_dispatcher(),
}

#: What makes a real server refuse writes, and its word for it.
REFUSALS: dict[str, tuple[str, ...]] = {
    "READONLY": ("REPLICAOF", HOST, "1"),
    "MASTERDOWN": ("REPLICAOF", HOST, "1"),
    "NOREPLICAS": ("CONFIG", "SET", "min-replicas-to-write", "1"),
}


@pytest.fixture
def server(data_folder: Path) -> Iterator[EmbeddedValkey]:
    """A Valkey that a test harms."""
    with EmbeddedValkey(data_folder / "valkey") as server:
        yield server


def runway_of(settings: Settings, port: int) -> Runway:
    """The runways on the server at a port."""
    return Runway(settings.model_copy(update={"redis_url": SecretStr(f"redis://{HOST}:{port}/0")}))


def execute(server: EmbeddedValkey, *command: str) -> None:
    """Run a command on a server."""
    with redis.Redis(host=HOST, port=server.port) as client:
        client.execute_command(*command)


@pytest.mark.parametrize("word", REFUSALS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_refusal_is_an_outage_and_costs_its_connection(
    settings: Settings, server: EmbeddedValkey, operation: str, word: str
) -> None:
    """Whatever a server refuses a command for, it does not answer, and is asked on a new connection then."""
    runway = runway_of(settings, server.port)
    OPERATIONS[operation](runway)
    client = (runway._blocking if operation == "fetch" else runway._servers).holding("q")  # noqa: SLF001  (the connection that was refused)
    before = client.client_id()
    if word == "MASTERDOWN":
        execute(server, "CONFIG", "SET", "replica-serve-stale-data", "no")
    execute(server, *REFUSALS[word])
    with pytest.raises(RedisUnavailableError):
        OPERATIONS[operation](runway)
    execute(server, "REPLICAOF", "NO", "ONE")
    execute(server, "CONFIG", "SET", "min-replicas-to-write", "0")
    OPERATIONS[operation](runway)
    assert client.client_id() != before
    runway.close()


def test_connections_follow_a_demoted_primary(
    settings: Settings, server: EmbeddedValkey, data_folder: Path
) -> None:
    """Where a name leads to another server by now, what is open to the old one does not stay there."""
    with EmbeddedValkey(data_folder / "other") as other:
        proxy = TcpProxy(server.port)
        runway = runway_of(settings, proxy.port)
        runway.submit("q", [Message(1, 0)])
        assert runway.fetch("q", 1, block_seconds=0.1) == [b"1.0"]
        execute(server, "REPLICAOF", HOST, str(other.port))
        proxy.lead_to(other.port)
        for operation in ("acknowledge", "fetch", "submit", "wake_dispatcher"):
            wait_until(lambda operation=operation: succeeds(runway, operation), 5, operation)  # type: ignore[misc]
        runway.close()
        proxy.close()


def succeeds(runway: Runway, operation: str) -> bool:
    """Whether Redis does it."""
    try:
        OPERATIONS[operation](runway)
    except RedisUnavailableError:
        return False
    return True


@pytest.mark.parametrize("connected", [True, False])
def test_no_request_waits_for_a_redis_that_hangs(
    settings: Settings, database: Database, server: EmbeddedValkey, *, connected: bool
) -> None:
    """Jobs, batches and graphs are created, and the health told, at once, with and without a connection."""
    runway = runway_of(settings, server.port)
    client = testing.TestClient(create_app(settings, database=database, runway=runway))
    bodies = [("/jobs/create", NOOP), ("/jobs/batch", {"jobs": [NOOP, NOOP | {"queue": "default"}]})]
    if connected:
        assert client.simulate_post("/jobs/create", json=NOOP).status_code == 201
    process = psutil.Process(server.pid)
    process.send_signal(SIGSTOP)
    try:
        for _ in range(40):
            for path, body in bodies:
                seconds = timed(lambda path=path, body=body: client.simulate_post(path, json=body))  # type: ignore[misc]
                assert seconds < REQUEST_SECONDS, path
        for path in ("/health", "/health/live", "/health/ready", "/health/db"):
            assert timed(lambda path=path: client.simulate_get(path)) < REQUEST_SECONDS, path  # type: ignore[misc]
    finally:
        process.send_signal(SIGCONT)
    runway.close()


def timed(do: Callable[[], object]) -> float:
    """How long something takes."""
    began_at = time.monotonic()
    do()
    return time.monotonic() - began_at


def test_pushes_go_on_when_redis_is_back(settings: Settings, database: Database, data_folder: Path) -> None:
    """A create after an outage is pushed by its own process again, soon."""
    port = free_port()
    runway = runway_of(settings, port)
    client = testing.TestClient(create_app(settings, database=database, runway=runway))
    assert client.simulate_post("/jobs/create", json=NOOP).status_code == 201
    with EmbeddedValkey(data_folder / "late", port=port):

        def is_pushed() -> bool:
            assert client.simulate_post("/jobs/create", json=NOOP).status_code == 201
            return runway.lengths([QUEUE])[0][0] > 0

        wait_until(is_pushed, 10, "a push")
    runway.close()
