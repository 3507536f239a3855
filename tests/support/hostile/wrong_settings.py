"""Settings of queues and types that cannot be meant, for every door that takes some."""

from __future__ import annotations

import pytest

__all__ = ["WRONG_QUEUE_SETTINGS", "WRONG_TYPE_SETTINGS"]

HUGE = int("9" * 400)
RATE = {"limit": 1, "period_seconds": 1}

#: What is said of a queue, and the setting that is refused.
WRONG_QUEUE_SETTINGS = [
    pytest.param({"concurrency": 0}, "concurrency", id="no slot"),
    pytest.param({"concurrency": 1_000_001}, "concurrency", id="too many"),
    pytest.param({"concurrency": 1.5}, "concurrency", id="half a slot"),
    pytest.param({"concurrency": "1"}, "concurrency", id="a number as text"),
    pytest.param({"concurrency": True}, "concurrency", id="true"),
    pytest.param({"concurrency": HUGE}, "concurrency", id="a huge number"),
    pytest.param({"key_concurrency": -1}, "key_concurrency", id="less than none"),
    pytest.param({"fair": 1}, "fair", id="one for true"),
    pytest.param({"on_conflict": "explode"}, "on_conflict", id="an unknown policy"),
    pytest.param({"on_conflict": ["wait"]}, "on_conflict", id="a list"),
    pytest.param({"ramp_seconds": -1}, "ramp_seconds", id="a ramp into the past"),
    pytest.param({"ramp_seconds": 3601}, "ramp_seconds", id="a long ramp"),
    pytest.param({"ramp_seconds": HUGE}, "ramp_seconds", id="a huge ramp"),
    pytest.param({"slo_wait_seconds": 0}, "slo_wait_seconds", id="no wait at all"),
    pytest.param({"slo_wait_seconds": HUGE}, "slo_wait_seconds", id="a huge wait"),
    pytest.param({"slo_wait_seconds": "5"}, "slo_wait_seconds", id="a wait as text"),
    pytest.param({"slo_objective": 1}, "slo_objective", id="every single job"),
    pytest.param({"slo_objective": True}, "slo_objective", id="a flag"),
    pytest.param({"slo_objective": 99}, "slo_objective", id="per cent"),
    pytest.param({"slo_objective": [0.9]}, "slo_objective", id="a list of objectives"),
    pytest.param({"rate": 5}, "rate", id="a rate without a period"),
    pytest.param({"rate": {"limit": 1}}, "rate.period_seconds", id="no period"),
    pytest.param({"rate": {"limit": 0, "period_seconds": 1}}, "rate.limit", id="no start at all"),
    pytest.param({"rate": {"limit": 1, "period_seconds": 0}}, "rate.period_seconds", id="an empty period"),
    pytest.param({"rate": RATE | {"algorithm": "leaky"}}, "rate.algorithm", id="an unknown algorithm"),
    pytest.param({"key_rate": RATE | {"x": 1}}, "key_rate.x", id="an unknown member"),
    pytest.param({"speed": 1}, "speed", id="an unknown setting"),
    pytest.param({"governed": True}, "governed", id="a column"),
    pytest.param({"fifo": True, "key_concurrency": 2}, "key_concurrency", id="a contradiction"),
]

#: The same of a type.
WRONG_TYPE_SETTINGS = [
    pytest.param({"concurrency": 0}, "concurrency", id="no slot"),
    pytest.param({"breaker": True}, "breaker", id="true"),
    pytest.param({"breaker": {"failure_rate": 0}}, "breaker.failure_rate", id="no failure at all"),
    pytest.param({"breaker": {"failure_rate": 1.1}}, "breaker.failure_rate", id="more than all"),
    pytest.param({"breaker": {"failure_rate": 2}}, "breaker.failure_rate", id="twice as many as all"),
    pytest.param({"breaker": {"minimum": 0}}, "breaker.minimum", id="of nothing"),
    pytest.param({"breaker": {"window_seconds": 0}}, "breaker.window_seconds", id="no window"),
    pytest.param({"breaker": {"window_seconds": 3601}}, "breaker.window_seconds", id="a long window"),
    pytest.param({"breaker": {"cooldown_seconds": 0}}, "breaker.cooldown_seconds", id="no cooldown"),
    pytest.param({"breaker": {"probes": 0}}, "breaker.probes", id="no probe"),
    pytest.param({"breaker": {"state": "open"}}, "breaker.state", id="where it stands"),
    pytest.param({"rate": RATE}, "rate", id="an unknown setting"),
]
