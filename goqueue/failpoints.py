"""Faults injected on purpose, for tests: off unless `GOQUEUE_FAILPOINTS` names them.

The setting is a comma-separated list of `point:action:probability`, for example
`after_commit_before_push:kill:0.05`. Actions: `kill` (SIGKILL of this process), `raise` (a
`FailpointError`), `exit` (`os._exit(70)`), `stop` (SIGSTOP of this process), `delay=SECONDS` (hold the
thread). The idea is FreeBSD's fail(9).
"""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections.abc import Callable

from goqueue.errors import ConfigurationError, GoQueueError

POINTS = frozenset(
    {
        "after_insert",
        "after_commit_before_push",
        "after_push",
        "after_fetch",
        "after_claim",
        "after_give_back",
        "before_record_commit",
        "after_record_before_ack",
        "in_heartbeat",
        "in_dispatch",
        "after_schedule_lock",
        "before_schedule_commit",
        "after_schedule_commit",
        "in_bulk_step",
        "after_bulk_step",
        "before_webhook_commit",
        "after_webhook_commit",
        "after_webhook_call",
    },
)

_active: dict[str, tuple[float, Callable[[], None]]] = {}


class FailpointError(GoQueueError):
    """A failpoint was hit, and is armed to raise."""


def configure(text: str) -> None:
    """Arm the failpoints of this process, replacing those armed before.

    Raises:
        ConfigurationError: a point or an action that does not exist, or a probability outside 0 to 1.
    """
    armed = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        point, action, probability = _parse(item)
        armed[point] = (probability, action)
    _active.clear()
    _active.update(armed)


def hit(point: str) -> None:
    """Pass a point: nothing happens unless it is armed and its dice fall so."""
    if not _active:
        return
    probability, action = _active.get(point, (0.0, _raise))
    if random.random() < probability:  # noqa: S311  (dice of a test)
        action()


def _parse(item: str) -> tuple[str, Callable[[], None], float]:
    point, _, rest = item.partition(":")
    name, _, probability_text = rest.partition(":")
    action = _action(name)
    try:
        probability = float(probability_text or "1")
    except ValueError:
        probability = -1.0
    if point not in POINTS or action is None or not 0 <= probability <= 1:
        raise ConfigurationError(
            [f"GOQUEUE_FAILPOINTS: expected point:kill|raise|exit|stop|delay=S:PROBABILITY, got {item!r}"]
        )
    return point, action, probability


def _action(name: str) -> Callable[[], None] | None:
    if re.fullmatch(r"delay=\d+(\.\d+)?", name):
        seconds = float(name.removeprefix("delay="))
        return lambda: time.sleep(seconds)
    return {"kill": _kill, "raise": _raise, "exit": _exit, "stop": _stop}.get(name)


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def _exit() -> None:
    os._exit(70)


def _raise() -> None:
    raise FailpointError
