"""The alert rules of the queues that promise a wait."""

from __future__ import annotations

import json

import pytest

from goqueue.cli import main
from goqueue.config.settings import Settings, environment_of
from goqueue.db.database import Database
from goqueue.engine import queue_rows as queue_store
from goqueue.limits import queue_setting_rows as queue_settings
from goqueue.limits.settings import QueueLimits


def test_the_command_prints_the_rules_of_queues_that_promise_a_wait(
    settings: Settings,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Queues without an objective have none; the others have theirs, in a file that Prometheus takes."""
    with database.transaction() as connection:
        queue_store.ensure(connection, ["quick", "free"])
        queue_settings.set_limits(connection, "quick", QueueLimits(slo_wait_seconds=2.0, slo_objective=0.9))
    for name, value in environment_of(settings).items():
        monkeypatch.setenv(name, value)
    assert main(["alert-rules"]) == 0
    (group,) = json.loads(capsys.readouterr().out)["groups"]
    assert group["name"] == "goqueue-objective-quick"
    recorded = [rule for rule in group["rules"] if "record" in rule]
    assert all('queue="quick",le="1.0"' in rule["expr"] for rule in recorded)
    # 14.4 times what may be late would be more than all jobs.
    limits = [rule["expr"].rpartition(" > ")[2] for rule in group["rules"] if "alert" in rule]
    assert limits == ["0.9", "0.6", "0.1"]
