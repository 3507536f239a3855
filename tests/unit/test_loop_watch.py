"""How long a loop of a scheduler may rest before it counts as hanging."""

from __future__ import annotations

import time
from typing import Any

import pytest

from goqueue.config.settings import Settings
from goqueue.scheduler.loop_watch import LoopWatch

INTERVALS = sorted(name for name, _ in Settings() if name.endswith("_interval_seconds"))


@pytest.mark.parametrize("interval", INTERVALS)
def test_a_role_may_rest_as_long_as_it_is_told_to(monkeypatch: pytest.MonkeyPatch, interval: str) -> None:
    """Whichever interval is the longest: a rest of it is none that hangs, one that is much longer is."""
    short: dict[str, Any] = dict.fromkeys(INTERVALS, 1.0) | {
        "liveness_seconds": 1.0,
        "database_statement_timeout_seconds": 1.0,
    }
    watch = LoopWatch(Settings(**short | {interval: 100.0}))
    began = time.monotonic()
    watch.rest("role")
    monkeypatch.setattr(time, "monotonic", lambda: began + 100.0)
    assert watch.stuck() == []
    monkeypatch.setattr(time, "monotonic", lambda: began + 110.0)
    assert watch.stuck() == ["role has rested for 110 s"]
