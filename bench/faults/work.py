"""What the jobs of both systems do in the scenarios, and the middleware that some scenarios add."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from dramatiq import Broker, Middleware
from dramatiq.broker import MessageProxy

from bench.faults.side_effects import CHECKED, ENDED, STARTED, SideEffects

FOLDER = Path(os.environ["FAULTS_FOLDER"])
RETRY_MS = 200
MAX_RETRIES = 3
TIME_LIMIT_MS = 600
SLOW_HOOK_SECONDS = 1.8

effects = SideEffects(FOLDER / "effects")


class JobFailedError(Exception):
    """The failure of a first run."""


def simple(number: int) -> None:
    """Run."""
    effects.note(number, STARTED)
    effects.note(number, ENDED)


def slow(number: int) -> None:
    """Run for half a second; again, after the first run was killed, for less."""
    again = effects.counted(STARTED)[number] > 0
    effects.note(number, STARTED)
    time.sleep(0.05 if again else 0.5)
    effects.note(number, ENDED)


def fail_in_outage(number: int) -> None:
    """Start, and fail while Redis is down; the second run is fine."""
    again = effects.counted(STARTED)[number] > 0
    effects.note(number, STARTED)
    if not again:
        while not (FOLDER / "outage").exists():
            time.sleep(0.01)
        raise JobFailedError("Redis is down, and so am I")
    effects.note(number, ENDED)


def fail_late(number: int) -> None:
    """Fail shortly before the time limit; the second run is fine."""
    again = effects.counted(STARTED)[number] > 0
    effects.note(number, STARTED)
    if not again:
        time.sleep(TIME_LIMIT_MS / 2000)
        raise JobFailedError("just in time")
    effects.note(number, ENDED)


class SlowHook(Middleware):
    """Reports failures to somebody slow, so that the time limit passes while the hook runs."""

    def after_process_message(
        self,
        broker: Broker,  # noqa: ARG002  (Dramatiq's signature)
        message: MessageProxy,  # noqa: ARG002  (Dramatiq's signature)
        *,
        result: Any = None,  # noqa: ARG002  (Dramatiq's signature)
        exception: BaseException | None = None,
    ) -> None:
        """Take longer than the time limit."""
        if isinstance(exception, JobFailedError):
            deadline = time.monotonic() + SLOW_HOOK_SECONDS
            while time.monotonic() < deadline:
                time.sleep(0.01)


class Guard(Middleware):
    """Checks a job before it may run. The check of each job's first attempt fails."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:  # noqa: ARG002  (Dramatiq's signature)
        """Refuse the first attempt."""
        key = str(_number_of(message))
        if key not in self._seen:
            self._seen.add(key)
            raise JobFailedError("the check failed")
        effects.note(int(key), CHECKED)


def added_middleware() -> list[Middleware]:
    """The middleware that this scenario adds to its broker."""
    name = os.environ.get("FAULTS_MIDDLEWARE", "")
    choices: dict[str, list[Middleware]] = {"slow_hook": [SlowHook()], "guard": [Guard()]}
    return choices.get(name, [])


def _number_of(message: Any) -> int:
    call = message.asdict()
    return int(call["kwargs"]["number"] if call["kwargs"] else call["args"][0]["number"])
