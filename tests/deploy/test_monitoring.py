"""What Grafana and Prometheus are given: it is what the scripts build, and asks only for what there is."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.grafana import build
from goqueue.observability import metrics
from goqueue.observability.alert_rules import BURNS, QueueObjective, counted_as_kept, rules_of, written

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
ALERTS = PROMETHEUS / "alerts" / "goqueue.yml"
ALERT_TESTS = PROMETHEUS / "tests" / "goqueue_test.yml"

needs_promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="make setup-promtool")

#: What is no metric in an expression.
WORDS = {
    *("sum", "max", "min", "count", "rate", "increase", "delta", "round", "topk", "histogram_quantile"),
    *("by", "on", "and", "or", "unless", "vector", "absent", "label_values"),
}
#: Prometheus adds these to whatever it scrapes.
OF_PROMETHEUS = {"up": {"job", "instance"}}
LABELS_OF_PROMETHEUS = {"job", "instance", "le"}


def promtool(*arguments: str | Path) -> None:
    """Run it; what it says of a failure is the failure of the test."""
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def expressions(document: Any) -> list[str]:
    """Every expression in a dashboard or a file of rules, and the query of a choice of queues."""
    if isinstance(document, dict):
        own = [document["expr"]] if isinstance(document.get("expr"), str) else []
        if document.get("type") == "query" and isinstance(document.get("query"), str):
            own.append(document["query"])
        return own + [found for value in document.values() for found in expressions(value)]
    if isinstance(document, list):
        return [found for value in document for found in expressions(value)]
    return []


def sources() -> list[tuple[str, str]]:
    """Each expression of the dashboards and of the static alerts, and where it is."""
    documents = {name: json.loads(text) for name, text in build.texts().items()}
    documents[ALERTS.name] = yaml.safe_load(ALERTS.read_text())
    return [(name, found) for name, document in documents.items() for found in expressions(document)]


def known() -> dict[str, set[str]]:
    """Every series that GoQueue or Prometheus tells, and its labels."""
    declared = metrics.declared().values()
    return OF_PROMETHEUS | {name: set(one.labels) for one in declared for name in one.series}


@pytest.mark.parametrize(("source", "expression"), sources())
def test_an_expression_names_only_declared_metrics_and_their_labels(source: str, expression: str) -> None:
    """A renamed metric or label turns this red, instead of a panel empty at 3 a.m."""
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', "", expression)
    selected = set(re.findall(r"([a-z_]+)\s*(?:=~|!~|!=|=)", " ".join(re.findall(r"\{([^}]*)\}", bare))))
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", bare)
    grouped = " ".join(re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", bare))
    labels = selected | set(re.findall(r"[a-z_]+", grouped))
    bare = re.sub(r"\b(?:by|on)\s*\([^)]*\)", "", bare)
    if "label_values" in bare:
        bare = bare.partition(",")[0]
    names = set(re.findall(r"[a-z_]{2,}", bare)) - WORDS
    series = known()
    assert names, f"{source}: {expression}"
    assert names <= set(series), f"{source}: {names - set(series)}"
    allowed = LABELS_OF_PROMETHEUS.union(*(series[name] for name in names))
    assert labels <= allowed, f"{source}: {labels - allowed} in {expression}"


def test_every_metric_that_says_something_of_its_own_is_on_a_dashboard() -> None:
    """What is measured and never shown helps nobody; the objective's part is in the alerts."""
    shown = " ".join(expression for source, expression in sources() if source.endswith(".json"))
    unseen = {
        declaration.name
        for declaration in metrics.declared().values()
        if not any(re.search(rf"\b{name}\b", shown) for name in declaration.series)
    }
    assert unseen == {"queue_slo_objective"}


@needs_promtool
def test_every_expression_parses(tmp_path: Path) -> None:
    """As Prometheus reads them, with Grafana's variables filled in."""
    rules = [
        {"record": f"expression:{number}", "expr": _filled(expression)}
        for number, (_, expression) in enumerate(sources())
        if not expression.startswith("label_values")
    ]
    path = tmp_path / "rules.yml"
    path.write_text(json.dumps({"groups": [{"name": "all", "rules": rules}]}))
    promtool("check", "rules", path)


def _filled(expression: str) -> str:
    return expression.replace("$__rate_interval", "1m").replace("$queue", ".+")


@pytest.mark.parametrize("name", sorted(build.texts()))
def test_the_committed_dashboard_is_the_one_that_is_built(name: str) -> None:
    """`make dashboards` writes them."""
    assert (build.FOLDER / name).read_text() == build.texts()[name]
    assert {path.name for path in build.FOLDER.iterdir()} == set(build.texts())


@pytest.mark.parametrize("name", sorted(build.texts()))
def test_every_panel_says_what_it_shows(name: str) -> None:
    """A title and a description; and no two panels of a dashboard share a place."""
    document = json.loads(build.texts()[name])
    panels = [panel for panel in document["panels"] if panel["type"] != "row"]
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(places) == len(panels) > 0
    assert all(panel["title"] and panel["description"].endswith(".") for panel in panels)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)


def test_grafana_is_given_the_folder_and_the_source_that_compose_mounts() -> None:
    """The three files that have to agree do."""
    provider = yaml.safe_load((build.FOLDER.parent / "provisioning/dashboards/goqueue.yml").read_text())
    source = yaml.safe_load((build.FOLDER.parent / "provisioning/datasources/prometheus.yml").read_text())
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    mounted = [volume.split(":")[1] for volume in compose["services"]["grafana"]["volumes"]]
    assert provider["providers"][0]["options"]["path"] in mounted
    assert source["datasources"][0]["type"] == "prometheus"
    assert source["datasources"][0]["url"] == "http://prometheus:9090"


@needs_promtool
def test_prometheus_takes_its_settings() -> None:
    """What docker-compose.yml mounts."""
    promtool("check", "config", "--syntax-only", PROMETHEUS / "prometheus.yml")
    promtool("check", "rules", ALERTS)


@needs_promtool
def test_each_alert_fires_where_it_should_and_only_there() -> None:
    """The cases of deploy/prometheus/tests."""
    promtool("test", "rules", ALERT_TESTS)


def test_each_alert_has_a_test_that_fires_and_a_page_to_read() -> None:
    """An alert that nobody saw fire is not there, and one without a page is no help."""
    rules = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    cases = yaml.safe_load(ALERT_TESTS.read_text())["tests"]
    fired = {
        test["alertname"] for case in cases for test in case["alert_rule_test"] if test.get("exp_alerts")
    }
    assert fired == {rule["alert"] for rule in rules}
    generated = rules_of([QueueObjective("email", 5.0, 0.99)])["groups"][0]["rules"]
    headings = re.findall(r"^## (\w+)$", (ROOT / "docs/alerts.md").read_text(), re.MULTILINE)
    alerts = [rule for rule in rules + generated if "alert" in rule]
    assert {rule["alert"] for rule in alerts} == set(headings)
    assert all(rule["annotations"]["runbook"] == f"docs/alerts.md#{rule['alert'].lower()}" for rule in alerts)


@pytest.mark.parametrize(
    ("wait_seconds", "bucket"), [(5.0, 5), (7.0, 5), (0.001, 0.005), (3600.0, 3600), (10**6, 3600)]
)
def test_an_objective_between_two_buckets_is_counted_by_the_shorter_one(
    wait_seconds: float, bucket: float
) -> None:
    """An alert may be early, never late."""
    assert counted_as_kept(wait_seconds) == bucket


#: After three good days so many of 100 jobs a minute are late, for so many minutes: the windows that tell.
LATE = [
    pytest.param(0, 60, [], id="none"),
    pytest.param(20, 90, ["1h"], id="a fifth, for more than an hour"),
    pytest.param(8, 390, ["6h"], id="eight in a hundred, for more than six hours"),
    pytest.param(1.5, 4380, ["3d"], id="one and a half in a hundred, for three days"),
    pytest.param(0.5, 4380, [], id="half of what may be late"),
]
GOOD_MINUTES = 3 * 24 * 60


@needs_promtool
@pytest.mark.parametrize(("late", "minutes", "windows"), LATE)
def test_the_budget_of_a_queue_burns(tmp_path: Path, late: float, minutes: int, windows: list[str]) -> None:
    """99 of 100 jobs within 5 s: fast burns page, a slow one is a ticket, what may be late is nothing."""
    queue = 'odd "{{queue}}" \\'
    label = json.dumps(queue)
    names = {burn.long: burn.alert for burn in BURNS}
    kept = f"0+100x{GOOD_MINUTES} {100 * GOOD_MINUTES}+{100 - late}x{minutes}"
    series = {
        f'job_wait_seconds_bucket{{queue={label},le="5.0"}}': kept,
        f"job_wait_seconds_count{{queue={label}}}": f"0+100x{GOOD_MINUTES + minutes + 1}",
    }
    expected = [f'{{alertname="{names[window]}", window="{window}"}}' for window in windows]
    firing = {
        "expr": "count by (alertname, window) (ALERTS{alertstate='firing'})",
        "eval_time": f"{GOOD_MINUTES + minutes}m",
        "exp_samples": [{"labels": labels, "value": 1} for labels in expected],
    }
    case = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [firing],
    }
    (tmp_path / "slo.yml").write_text(written([QueueObjective(queue, 5.0, 0.99)]))
    path = tmp_path / "test.yml"
    path.write_text(json.dumps({"rule_files": ["slo.yml"], "evaluation_interval": "30m", "tests": [case]}))
    promtool("test", "rules", path)
