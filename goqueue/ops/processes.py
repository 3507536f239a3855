"""Child processes: each in a session of its own, and watched, so that none outlives its owner."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals
from typing import IO, Any

from goqueue.config.settings import Settings, environment_of

#: Waits on a pipe that only the owner holds, which the kernel closes when the owner is gone, however it died.
#: Then: a signal to the child alone, which passes it on; only where the child is dead already, to what it
#: left behind. A line on the pipe says that the owner saw the child end and has told what it left behind.
#: SIGKILL to what is still there when the grace period is over. The group's number stays taken as long as one
#: of its processes lives, so none of these signals reaches a stranger. What tells all processes of a service
#: to stop does not end this one.
WATCHDOG = """
trap '' TERM INT HUP
read -r has_ended || kill -s "$3" -- "$1" || kill -s "$3" -- "-$1"
passed=0
while kill -s 0 -- "-$1" && [ "$passed" -lt "$2" ]; do sleep 1; passed=$((passed + 1)); done
kill -s KILL -- "-$1"
"""

#: Those that still wait for what their child left behind.
_watchdogs: list[subprocess.Popen[bytes]] = []

POLL_SECONDS = 0.02

#: What a process does after its grace period (interrupt, record, give back its lease), with time to spare for
#: a machine that is busy.
MARGIN_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Command:
    """A program to run.

    Attributes:
        name: what log lines call it.
        grace_seconds: how long it may take to end after SIGTERM.
        output: where its standard output and error go; None is where ours go.
        shutdown_reasons: the folder in which a process notes that it ends because an operator wants it to, or
            that it is to be replaced.
        folder: where it runs; None is where we do.
        account: who runs it; None is who we are.
        orphan_signal: what ends it when its owner is gone.
    """

    name: str
    arguments: tuple[str, ...]
    environment: dict[str, str]
    grace_seconds: float
    output: IO[bytes] | None = None
    shutdown_reasons: Path | None = None
    folder: Path | None = None
    account: pwd.struct_passwd | None = None
    orphan_signal: Signals = SIGTERM


def goqueue_command(settings: Settings, name: str, *options: str) -> Command:
    """A `goqueue` command as a child of this process, with these settings."""
    arguments = (sys.executable, "-m", "goqueue", name, *options)
    grace_seconds = settings.shutdown_grace_seconds + MARGIN_SECONDS
    return Command(name, arguments, environment_of(settings), grace_seconds)


class ChildProcess:
    """One run of a command. It starts with the construction; Ctrl-C on the terminal does not reach it."""

    def __init__(self, command: Command) -> None:
        self.command = command
        self.started_at = time.monotonic()
        self._asked_to_end_at: float | None = None
        self._process = subprocess.Popen(  # noqa: S603  (our own commands)
            command.arguments,
            env=command.environment,
            stdin=subprocess.DEVNULL,
            stdout=command.output,
            stderr=command.output,
            cwd=command.folder,
            start_new_session=True,
            **_ids_of(command.account),
        )
        arguments = (self.pid, int(command.grace_seconds), command.orphan_signal.name.removeprefix("SIG"))
        self._watchdog = subprocess.Popen(  # noqa: S603  (a constant)
            ["/bin/sh", "-c", WATCHDOG, "goqueue-watchdog", *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """The process id, which is also the id of its session and its process group."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """The exit code, negative for the signal that ended the process; None while it runs."""
        return self._process.returncode

    @property
    def asked_to_end_seconds(self) -> float:
        """Tell how long ago it was asked to end; 0 while it was not."""
        return 0.0 if self._asked_to_end_at is None else time.monotonic() - self._asked_to_end_at

    @property
    def lived_seconds(self) -> float:
        """Tell how long ago it was started."""
        return time.monotonic() - self.started_at

    def has_ended(self) -> bool:
        """Tell whether it has ended. What it left behind is then ended, too."""
        if self._process.returncode is not None:
            return True
        # Look without reaping: until it is reaped, the number of its group is nobody else's.
        if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
            return False
        self._signal_group(SIGTERM)
        self._reap()
        return True

    def terminate(self) -> None:
        """Ask it to end: what it does is finished first."""
        if self._asked_to_end_at is None:
            self._asked_to_end_at = time.monotonic()
        self.signal(SIGTERM)

    def signal(self, number: Signals) -> None:
        """Send a signal to the process alone, where it has not ended."""
        if not self.has_ended():
            self._process.send_signal(number)

    def wait(self, seconds: float) -> bool:
        """Wait until it has ended, at most so long; whether it has."""
        deadline = time.monotonic() + seconds
        while not self.has_ended():
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_SECONDS)
        return True

    def kill(self) -> None:
        """End it and everything it started, at once."""
        if not self.has_ended():
            self._signal_group(SIGKILL)
            self._reap()

    def end_watch(self) -> None:
        """End its watchdog: from now on it outlives its owner."""
        self._watchdog.kill()
        self._watchdog.communicate()

    def _reap(self) -> None:
        """Note the exit code. The watchdog stays until nothing of the group is left."""
        self._process.wait()
        assert self._watchdog.stdin is not None
        with suppress(BrokenPipeError), self._watchdog.stdin as pipe:
            pipe.write(b"\n")
        _watchdogs[:] = [watchdog for watchdog in [*_watchdogs, self._watchdog] if watchdog.poll() is None]

    def _signal_group(self, number: Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):  # macOS: EPERM for a group of zombies
            os.killpg(self.pid, number)


def _ids_of(account: pwd.struct_passwd | None) -> dict[str, Any]:
    """What starts a process as this account."""
    return {} if account is None else {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def run_to_end(command: Command, stopping: threading.Event) -> int:
    """Run a command and wait for it; its exit code. It ends with this process, whatever ends that.

    When `stopping` is set meanwhile, the command is killed, and the code is that of SIGKILL.
    """
    child = ChildProcess(command)
    try:
        while not child.has_ended() and not stopping.wait(POLL_SECONDS):
            pass
    finally:
        child.kill()
    return child.exit_code or 0
