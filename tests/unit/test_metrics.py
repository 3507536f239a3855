"""The declarations of metrics: complete, bounded, documented, and the only ones."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from goqueue.api.service_gauges import bounded
from goqueue.insight.gauge_rows import QueueGauges
from goqueue.observability import metrics
from tests.support.house.declared_metrics import UndeclaredMetricError

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "goqueue"

#: The contract with dashboards and alerts: name → labels.
PROMISED = {
    "jobs_created_total": ("queue",),
    "http_request_duration_seconds": ("method", "route", "status"),
    "jobs_processed_total": ("queue", "status"),
    "job_duration_seconds": ("queue",),
    "queue_depth": ("queue",),
    "jobs_retried_total": ("queue", "type"),
    "jobs_failed_total": ("queue", "type", "error"),
    "job_wait_seconds": ("queue",),
    "queue_oldest_age_seconds": ("queue",),
    "workers_live": (),
    "worker_threads_busy": (),
    "dispatcher_lag_seconds": (),
    "stale_results_total": (),
    "stale_deliveries_total": (),
    "leases_expired_total": (),
    "recorder_batch_size": (),
    "recorder_pending": (),
    "database_horizon_age_seconds": (),
    "leader": (),
    "queue_paused": ("queue",),
    "queue_slo_wait_seconds": ("queue",),
    "queue_slo_objective": ("queue",),
}

#: The modules that need something of prometheus_client; none of it makes a metric, outside the first.
IMPORTERS = {"observability/metrics.py", "observability/shared_metrics.py", "api/service_gauges.py"}


@pytest.mark.parametrize("name", PROMISED)
def test_what_was_promised_is_declared(name: str) -> None:
    """A metric that dashboards and alerts name exists under exactly this name, with exactly these labels."""
    assert metrics.declared()[name].labels == PROMISED[name]


@pytest.mark.parametrize("declaration", metrics.declared().values(), ids=lambda found: found.name)
def test_names_and_help_are_as_prometheus_wants_them(declaration: metrics.Declaration) -> None:
    """Counters end with `_total`, nothing else does, and each has a sentence of help."""
    assert declaration.name.endswith("_total") == (declaration.kind == "counter")
    assert declaration.help[0].isupper() or declaration.help[0].isdigit()
    assert declaration.help.endswith(".")
    assert re.fullmatch(r"[a-z][a-z0-9_]*", declaration.name)


def test_a_metric_that_nobody_declared_is_refused() -> None:
    """Making a metric anywhere but in `goqueue/observability/metrics.py` fails in the tests."""
    with pytest.raises(UndeclaredMetricError, match="surprises"):
        prometheus_client.Counter("surprises_total", "Made somewhere else.")


def test_no_other_module_makes_metrics() -> None:
    """What makes metrics is imported from prometheus_client by one module alone."""
    importers = set()
    for path in PACKAGE.rglob("*.py"):
        name = str(path.relative_to(PACKAGE))
        found = _imports_of_prometheus(ast.parse(path.read_text()))
        if found:
            importers.add(name)
        makers = {
            item for item in found if re.search(r"Counter|Gauge|Histogram|Summary|Info|Enum|Family", item)
        }
        assert name == "observability/metrics.py" or not makers, f"{name} makes metrics: {makers}"
    assert importers == IMPORTERS


def _imports_of_prometheus(tree: ast.Module) -> set[str]:
    return {
        f"{getattr(node, 'module', '')}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
        if f"{getattr(node, 'module', None) or alias.name}".startswith("prometheus_client")
    }


def test_label_values_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of very many queues, types and errors the first have series of their own; the others are together."""
    for name, maximum in (("queue", 3), ("type", 2), ("error", 1)):
        monkeypatch.setitem(metrics.BOUNDS, name, metrics.BoundedLabel(maximum))
    counter = _detached(metrics.Counter, "jobs_failed_total", ("queue", "type", "error"))
    for number in range(100):
        counter.labels(f"queue-{number}", f"type-{number}", f"error-{number}").inc()
    samples = [sample for metric in counter.collect() for sample in metric.samples]
    assert {sample.labels["queue"] for sample in samples} == {"queue-0", "queue-1", "queue-2", "other"}
    assert {sample.labels["type"] for sample in samples} == {"type-0", "type-1", "other"}
    assert {sample.labels["error"] for sample in samples} == {"error-0", "other"}
    assert sum(sample.value for sample in samples) == 100


@pytest.mark.parametrize("values", [("a",), ("a", "b", "c")], ids=["too few", "too many"])
def test_labels_are_all_given(values: tuple[str, ...]) -> None:
    """A series is named by all of its labels, in their order."""
    with pytest.raises(ValueError, match="zip"):
        metrics.JOBS_PROCESSED.labels(*values)


def _detached(kind: type[Any], name: str, labels: tuple[str, ...] = (), **options: Any) -> Any:
    """A metric that belongs to no registry."""
    return kind(name, "A test's.", labels, registry=None, **options)


def test_many_observations_count_as_each_would() -> None:
    """Observing a batch at once leaves the same buckets, sum and number as observing one by one."""
    values = [0.0, 0.5, 1.0, 1.0000001, 2.0, 5.0, 1e9]
    kinds = (prometheus_client.Histogram, metrics.Histogram, metrics.Histogram)
    plain, apart, together = (_detached(kind, "job_wait_seconds", buckets=(1, 2, 5)) for kind in kinds)
    for value in values:
        plain.observe(value)
        apart.observe(value)
    together.observe_all(values)
    assert _text_of(plain) == _text_of(apart) == _text_of(together)
    assert 'job_wait_seconds_bucket{le="1.0"} 3.0' in _text_of(together)


def _text_of(metric: Any) -> str:
    registry = CollectorRegistry()
    registry.register(metric)
    return generate_latest(registry).decode()


def _queue(name: str, **values: Any) -> QueueGauges:
    defaults: dict[str, Any] = {
        "paused": False,
        "depth": 1,
        "oldest_age_seconds": 2.0,
        "dead_letters": 3,
        "workers": 1,
        "slo_wait_seconds": None,
        "slo_objective": None,
    }
    return QueueGauges(name=name, **(defaults | values))


def test_very_many_queues_are_told_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Queues beyond the bound are one series: their jobs together, and the worst of their ages."""
    monkeypatch.setattr(metrics, "QUEUES_MAX", 2)
    queues = [_queue("a"), _queue("b"), _queue("c"), _queue("d", oldest_age_seconds=9.0, workers=0)]
    assert bounded(queues[:2]) == queues[:2]
    other = _queue("other", depth=2, dead_letters=6, oldest_age_seconds=9.0, workers=0)
    assert bounded(queues) == [*queues[:2], other]


def test_the_document_lists_every_metric() -> None:
    """The table of docs/metrics.md has a row for each declaration: name, kind, labels and help."""
    text = (ROOT / "docs" / "metrics.md").read_text()
    rows = [
        line for line in text.splitlines() if re.match(r"\| `[a-z_]+` \| (counter|gauge|histogram) \|", line)
    ]
    assert rows == [row_of(declaration) for declaration in metrics.declared().values()]


def row_of(declaration: metrics.Declaration) -> str:
    """A metric's row in the document."""
    labels = ", ".join(f"`{label}`" for label in declaration.labels)
    return f"| `{declaration.name}` | {declaration.kind} | {labels} | {declaration.help} |"
