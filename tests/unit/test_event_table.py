"""docs/events.md and the code name the same log events."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from goqueue.observability import metrics

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "events.md"
HEADING = "| event | level | fields | what happened | what to do | metric |"

#: The methods of a logger; `exception` is `error` with a traceback.
LEVELS = {name: name for name in ("debug", "info", "warning", "error", "critical")} | {"exception": "error"}

#: Stands for fields that are not named where an event is logged.
FURTHER = "…"

#: A record of Dramatiq that is renamed on its way; no call of a logger of ours.
RETOLD = {("attempt_failed", "warning"): {"verdict", "error"}}

Events = dict[tuple[str, str], set[str]]


def logged() -> Events:
    """Each event of the code with its level, and all fields that it has anywhere."""
    events = defaultdict[tuple[str, str], set[str]](set)
    for path in sorted((ROOT / "goqueue").rglob("*.py")):
        for call in calls_of_log(ast.parse(path.read_text())):
            event = ast.literal_eval(call.args[0])
            assert isinstance(call.func, ast.Attribute)
            fields = set(map(field_of, call.keywords))
            if call.func.attr == "exception":
                fields.add("exception")
            events[event, LEVELS[call.func.attr]] |= fields
    return events | RETOLD


def calls_of_log(tree: ast.Module) -> Iterator[ast.Call]:
    """Every `log.info("…")` and its like."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and re.fullmatch(rf"log\.({'|'.join(LEVELS)})", ast.unparse(node.func)):
            yield node


def field_of(keyword: ast.keyword) -> str:
    """The name of a field in the line that is written."""
    if keyword.arg is None:
        return FURTHER
    return "exception" if keyword.arg == "exc_info" else keyword.arg


def rows() -> list[list[str]]:
    """The cells of every row of the page's tables of events."""
    found: list[list[str]] = []
    in_table = False
    for line in PAGE.read_text().splitlines():
        in_table = line == HEADING or (in_table and line.startswith("|"))
        if in_table and line != HEADING and not line.startswith("|---"):
            found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def documented() -> Events:
    """Each event of the page with its level and its fields."""
    return {
        (event.strip("`"), level): {field.strip("` ") for field in fields.split(",") if field}
        for event, level, fields, *_ in rows()
    }


def test_every_event_has_a_row_and_every_row_an_event() -> None:
    """What is logged, at which level and with which fields, is what the tables say, and nothing else is."""
    assert documented() == logged()


def test_no_event_has_two_rows() -> None:
    """An event at one level is explained in one place."""
    assert len(documented()) == len(rows())


def test_each_row_is_whole() -> None:
    """A row says what happened and what to do, and names metrics that are declared."""
    for event, _, _, happened, to_do, metric in rows():
        assert happened.endswith("."), event
        assert to_do.endswith((".", "?")), event
        assert set(re.findall(r"`(\w+)`", metric)) <= set(metrics.declared()), event


def test_loggers_have_the_name_that_is_looked_for() -> None:
    """A logger of another name would keep its events out of the comparison."""
    for path in sorted((ROOT / "goqueue").rglob("*.py")):
        made = re.findall(r"^.*structlog\.get_logger\(.*$", path.read_text(), re.MULTILINE)
        assert made in ([], ["log = structlog.get_logger(__name__)"]), path


@pytest.mark.parametrize("event", [event for event, _ in RETOLD])
def test_what_is_retold_is_in_the_code(event: str) -> None:
    """The names that the tree of calls cannot show stand in the pipeline."""
    assert f'"{event}"' in (ROOT / "goqueue/observability/logging.py").read_text()
