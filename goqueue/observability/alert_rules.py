"""Alert rules of the queues' objectives: how quickly a queue spends its budget of late jobs.

By the multi-window, multi-burn-rate alerts of Google's "The Site Reliability Workbook", chapter 5, "Alerting
on SLOs", with its table of rates and windows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from goqueue.observability.metrics import JOB_WAIT, WAIT_BUCKETS

__all__ = ["BURNS", "Burn", "QueueObjective", "counted_as_kept", "rules_of", "written"]

MISSES = "queue:job_wait_misses:ratio_rate"

#: However small an objective, this part of late jobs is alarming in the quick windows.
MOST_MISSES = 0.9


@dataclass(frozen=True, slots=True)
class QueueObjective:
    """The objective of a queue: that a part of its jobs, `objective`, waits at most `wait_seconds`."""

    queue: str
    wait_seconds: float
    objective: float


@dataclass(frozen=True, slots=True)
class Burn:
    """A pace at which the budget of 30 days is spent, and the windows over which it is measured.

    Attributes:
        rate: 1 spends it in exactly 30 days.
        short: the window that lets the alert end soon after its cause.
    """

    alert: str
    severity: str
    rate: float
    long: str
    short: str
    spent: str


BURNS = (
    Burn("GoQueueWaitBudgetBurnsFast", "page", 14.4, "1h", "5m", "2 % of it in an hour"),
    Burn("GoQueueWaitBudgetBurnsFast", "page", 6, "6h", "30m", "5 % of it in six hours"),
    Burn("GoQueueWaitBudgetBurnsSlowly", "ticket", 1, "3d", "6h", "10 % of it in three days"),
)


def counted_as_kept(wait_seconds: float) -> float:
    """The bucket of the histogram whose jobs count as in time, in seconds.

    The objective itself where it is a bucket; else the next shorter one, so that an alert may be early and
    never late. Below the shortest bucket it is that one.
    """
    return max((bucket for bucket in WAIT_BUCKETS if bucket <= wait_seconds), default=WAIT_BUCKETS[0])


def rules_of(objectives: Iterable[QueueObjective]) -> dict[str, Any]:
    """A file of Prometheus rules: for each queue its late jobs over each window, and the alerts on them."""
    return {"groups": [_group(objective) for objective in objectives]}


# JSON itself escapes the older controls.
_STEERING = re.compile(r"[\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")


def written(objectives: Iterable[QueueObjective]) -> str:
    """Write the alert rules of these objectives as text: JSON, which is YAML."""
    text = json.dumps(rules_of(objectives), indent=2, ensure_ascii=False)
    return _STEERING.sub(lambda match: f"\\u{ord(match[0]):04x}", text) + "\n"


def _group(objective: QueueObjective) -> dict[str, Any]:
    windows = dict.fromkeys(window for burn in BURNS for window in (burn.short, burn.long))
    rules = [_misses(objective, window) for window in windows]
    return {
        "name": f"goqueue-objective-{objective.queue}",
        "rules": rules + [_alert(objective, burn) for burn in BURNS],
    }


def _misses(objective: QueueObjective, window: str) -> dict[str, Any]:
    name, queue = _name(), _quoted(objective.queue)
    bucket = _quoted(f"{float(counted_as_kept(objective.wait_seconds))}")
    return {
        "record": f"{MISSES}{window}",
        "expr": f"1 - sum(rate({name}_bucket{{queue={queue},le={bucket}}}[{window}]))"
        f" / sum(rate({name}_count{{queue={queue}}}[{window}]))",
        "labels": {"queue": objective.queue},
    }


def _alert(objective: QueueObjective, burn: Burn) -> dict[str, Any]:
    queue = _quoted(objective.queue)
    most = min(MOST_MISSES, burn.rate * (1 - objective.objective))
    return {
        "alert": burn.alert,
        "expr": " and ".join(
            f"{MISSES}{window}{{queue={queue}}} > {most:.6g}" for window in (burn.long, burn.short)
        ),
        # The queue is a label of what is recorded; here its name would be a template.
        "labels": {"severity": burn.severity, "window": burn.long},
        "annotations": {
            "summary": "Too many jobs of {{ $labels.queue }} wait longer than "
            f"{objective.wait_seconds:g} s",
            "description": "{{ $value | humanizePercentage }} of its jobs were late, and "
            f"{1 - objective.objective:.4%} may be: at this pace the budget of 30 days loses {burn.spent}.",
            "runbook": f"docs/alerts.md#{burn.alert.lower()}",
        },
    }


def _name() -> str:
    (described,) = JOB_WAIT.describe()
    return str(described.name)


def _quoted(text: str) -> str:
    """As a string of PromQL, whose escapes are those of JSON."""
    return json.dumps(text, ensure_ascii=False)
