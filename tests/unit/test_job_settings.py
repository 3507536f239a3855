"""What callers from Python may say of a new job: a wrong type is told as a wrong value is."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Any

import pytest

import goqueue
from goqueue.api.schemas import CreateJob
from goqueue.engine.options.job_options import OptionsFromPython, refuse_wrong
from goqueue.engine.options.job_settings import JobSettings
from goqueue.errors import InvalidJobError

NOW = datetime.now(UTC)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("queue", 5),
        ("priority", "high"),
        ("priority", 1.5),
        ("max_retries", True),
        ("available_at", "2026-01-01T00:00:00Z"),
        ("available_at", date(2026, 1, 1)),
        ("delay_seconds", "60"),
        ("time_limit_seconds", NOW),
        ("expires_at", 60),
        ("ttl_seconds", "60"),
        ("deadline_at", 60),
        ("deadline_seconds", [60]),
        ("concurrency_key", 7),
        ("rate_cost", "1"),
        ("unique", "a key"),
        ("depends_on", 7),
        ("depends_on", "7"),
        ("depends_on", True),
        ("on_parent_failure", 7),
    ],
)
def test_a_setting_of_a_wrong_type_is_refused_by_name(name: str, value: Any) -> None:
    """The error is the one of all wrong settings, and says what was expected."""
    said: Any = {name: value}
    with pytest.raises(InvalidJobError) as caught:
        refuse_wrong(said)
    assert re.match(r"expected \w", caught.value.fields[name])


def test_every_setting_has_a_type() -> None:
    """A setting that is added is checked as well."""
    for name in JobSettings.__annotations__:
        said: Any = {name: object()}
        with pytest.raises(InvalidJobError):
            refuse_wrong(said)


def test_every_setting_is_in_the_one_description() -> None:
    """The type that Python's callers see has the options of the model that REST reads, and no others."""
    assert OptionsFromPython.model_fields.keys() == JobSettings.__optional_keys__
    said: Any = CreateJob.model_fields.keys() - {"payload", "type", "then"}
    assert said == JobSettings.__optional_keys__


def test_right_settings_pass() -> None:
    """What the types say is what is taken."""
    refuse_wrong(
        {
            "queue": "default",
            "priority": -1,
            "max_retries": 0,
            "available_at": NOW,
            "time_limit_seconds": 1,
            "concurrency_key": "k",
            "rate_cost": 2,
            "unique": goqueue.Unique(key="a key"),
            "depends_on": (1, 2),
            "on_parent_failure": "run",
        }
    )


@pytest.mark.parametrize("seconds", [float("inf"), float("-inf"), float("nan")])
def test_a_wait_without_an_end_is_no_verdict(seconds: float) -> None:
    """A handler that computed nonsense fails its attempt and says why."""
    with pytest.raises(ValueError, match="expected a time to wait"):
        goqueue.Snooze(seconds)
    with pytest.raises(ValueError, match="expected a time to wait"):
        goqueue.RetryAfter(seconds)
