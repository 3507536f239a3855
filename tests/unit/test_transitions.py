"""The table of transitions says what the statements do, and what the chart in the documents shows."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import product
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, NamedTuple

import pytest

from goqueue.engine import new_job_rows, transitions, unique_rows
from goqueue.engine.transitions import TRANSITIONS
from goqueue.engine.transitions.set_status import set_status
from goqueue.jobs import CLIENT_TRANSITIONS, FINAL_STATUSES, JobStatus

ARCHITECTURE = Path(__file__).parents[2] / "docs" / "architecture.md"
PACKAGE = Path(__file__).parents[2] / "goqueue"

MODULES: dict[str, ModuleType] = {
    found.name: importlib.import_module(f"{transitions.__name__}.{found.name}")
    for found in pkgutil.iter_modules(transitions.__path__)
}

#: What separates the parts of an UPDATE; text in quotes is taken whole, because it may hold any of the rest.
_TOKEN = re.compile(r"'(?:[^']|'')*'|[(),]|\b(?:FROM|WHERE|RETURNING)\b")
_UPDATE = re.compile(r"UPDATE jobs\s+SET\s")
#: `status = 'a'`, `status || '' = 'a'`, `status IN ('a','b')`, `status = ANY(%(name)s)`.
_GUARD = re.compile(
    r"\bstatus\s*(?:\|\|\s*''\s*)?(?:=\s*('\w+')|IN\s*\(([^)]*)\)|=\s*ANY\s*\((%\(\w+\)s)\))", re.IGNORECASE
)


class Statement(NamedTuple):
    """An UPDATE that changes the status of jobs, in its parts.

    Attributes:
        before: what comes before it, such as the sub-select that locks the rows.
        status: the expression that the status is set to.
        condition: what comes after the assignments: FROM and WHERE.
    """

    before: str
    status: str
    condition: str


class Targets(NamedTuple):
    """The states that a statement sets, and what else names one in it."""

    states: frozenset[JobStatus]
    given: frozenset[str]


def parts_of(sql: str, start: int) -> tuple[list[str], str]:
    """The assignments that begin at a place of a statement, and the FROM and WHERE behind them."""
    assignments, depth, began, behind = [], 0, start, None
    for token in _TOKEN.finditer(sql, start):
        depth += {"(": 1, ")": -1}.get(token[0], 0)
        if depth < 0 or (depth == 0 and token[0] == "RETURNING"):
            end = token.start()
            break
        if depth == 0 and behind is None and token[0] in {",", "FROM", "WHERE"}:
            assignments.append(sql[began : token.start()].strip())
            began = token.end()
            behind = None if token[0] == "," else token.start()
    else:
        end = len(sql)
    if behind is None:
        return [*assignments, sql[began:end].strip()], ""
    return assignments, sql[behind:end]


def statements_in(sql: str) -> Iterator[Statement]:
    """Every UPDATE in a text that changes the status of jobs."""
    for update in _UPDATE.finditer(sql):
        assignments, condition = parts_of(sql, update.end())
        for assignment in assignments:
            column, _, expression = assignment.partition("=")
            if column.strip() == "status":
                yield Statement(sql[: update.start()], expression.strip(), condition)


def guards_in(text: str) -> list[frozenset[str]]:
    """What each condition on the status allows: states, or the parameter that names them."""
    return [
        frozenset(re.findall(r"'(\w+)'", one or several)) or frozenset({parameter})
        for one, several, parameter in _GUARD.findall(text)
    ]


def targets_of(statement: Statement) -> Targets:
    """What a statement sets the status to, where an expression has a name by what that stands for."""
    expression = statement.status
    if (name := re.fullmatch(r"(?:\w+\.)?(becomes)", expression)) is not None:
        whole = re.search(rf"CASE(?:(?!\bCASE\b).)*?END\s+AS\s+{name[1]}\b", statement.before, re.DOTALL)
        assert whole is not None, "what the status is set to is not computed in the statement"
        expression = whole[0].rpartition("AS")[0].strip()
    results = [expression]
    if expression.startswith("CASE"):
        results = re.findall(r"\b(?:THEN|ELSE)\s+('\w+'|%\(\w+\)s|[\w.]+)", expression)
    states = {JobStatus(result.strip("'")) for result in results if result.startswith("'")}
    # `ELSE status` leaves it as it is.
    return Targets(frozenset(states), frozenset(results) - {f"'{state}'" for state in states} - {"status"})


def names_read_by(code: CodeType) -> set[str]:
    """The global names that a function reads, those inside its comprehensions included."""
    inner = (names_read_by(part) for part in code.co_consts if isinstance(part, CodeType))
    return set(code.co_names).union(*inner)


def constants_of(module: ModuleType) -> dict[str, Statement]:
    """The constants of a module that change the status of jobs, each with its one statement."""
    found = {
        name: list(statements_in(value)) for name, value in vars(module).items() if isinstance(value, str)
    }
    assert all(len(statements) <= 1 for statements in found.values())
    return {name: statements[0] for name, statements in found.items() if statements}


def runs_of(module: ModuleType) -> dict[str, list[str]]:
    """Which functions of a module, private ones as well, change the status, and by which statements."""
    constants = constants_of(module)
    runs = {
        name: sorted(names_read_by(inspect.unwrap(function).__code__) & constants.keys())
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__
    }
    return {name: read for name, read in runs.items() if read}


RUNS = {
    (module, function): names
    for module, found in MODULES.items()
    for function, names in runs_of(found).items()
}
NAMES = sorted({row.name for row in TRANSITIONS})


def statement_of(name: str) -> Statement:
    """The one statement of a function by which it changes the status of jobs."""
    [constant] = RUNS[name, name]
    return constants_of(MODULES[name])[constant]


def moves_of(name: str | None = None) -> set[tuple[JobStatus, JobStatus]]:
    """The changes that a function makes by the table, as pairs of states; without one, those of all."""
    return {
        move
        for row in TRANSITIONS
        if name is None or row.name == name
        for move in product(row.leaves, row.leads_to)
    }


def test_the_table_names_the_functions_that_change_the_state() -> None:
    """Every function that runs such a statement has a row and the name of its module, and every row one."""
    assert sorted(RUNS) == [(name, name) for name in NAMES]


@pytest.mark.parametrize("module", MODULES)
def test_every_statement_is_a_constant_that_one_function_runs(module: str) -> None:
    """No statement that changes the state is hidden inside a function, run by two, or run by none."""
    constants = constants_of(MODULES[module])
    assert len(list(statements_in(inspect.getsource(MODULES[module])))) == len(constants)
    run = [name for names in runs_of(MODULES[module]).values() for name in names]
    assert sorted(run) == sorted(constants)


@pytest.mark.parametrize("name", NAMES)
def test_a_statement_names_the_states_that_it_leaves(name: str) -> None:
    """Each condition on the status, where rows are locked or changed, names what the table says."""
    statement = statement_of(name)
    rows = [row for row in TRANSITIONS if row.name == name]
    leaves = frozenset[str]().union(*(row.leaves for row in rows))
    changing = guards_in(statement.condition)
    assert changing or "FOR UPDATE" in statement.before
    expected = frozenset({"%(sources)s"}) if rows[0].given == "%(wanted)s" else leaves
    assert {*guards_in(statement.before), *changing} == {expected}


@pytest.mark.parametrize("name", NAMES)
def test_a_statement_sets_the_states_that_it_leads_to(name: str) -> None:
    """What it sets is what the table says; where an outcome or a parameter names it, the table says which."""
    targets = targets_of(statement_of(name))
    rows = [row for row in TRANSITIONS if row.name == name]
    assert {row.given for row in rows} == (targets.given or {None})
    allowed = {
        "o.status": CLIENT_TRANSITIONS[JobStatus.RUNNING],
        "%(wanted)s": frozenset[JobStatus]().union(*CLIENT_TRANSITIONS.values()),
    }
    expected = targets.states.union(*(allowed[given] for given in targets.given))
    assert frozenset[JobStatus]().union(*(row.leads_to for row in rows)) == expected


def test_a_client_is_allowed_what_the_table_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each wanted state, `set_status` asks for exactly the sources that the table has for it."""
    asked: list[tuple[JobStatus, JobStatus]] = []

    def note(_connection: object, _sql: str, parameters: dict[str, Any]) -> tuple[int]:
        asked.extend((JobStatus(name), JobStatus(parameters["wanted"])) for name in parameters["sources"])
        return (1,)

    module = MODULES["set_status"]
    monkeypatch.setattr(module, "fetch_one", note)
    monkeypatch.setattr(module, "atomic", nullcontext)
    monkeypatch.setattr(module, "settle", lambda *_: [])
    monkeypatch.setattr(unique_rows, "keyed", lambda *_: {})
    for wanted in JobStatus:
        set_status(None, 1, wanted)  # type: ignore[arg-type]
    assert sorted(asked) == sorted(moves_of("set_status"))


@pytest.mark.parametrize(
    "name", sorted({row.name for row in TRANSITIONS if row.leads_to & FINAL_STATUSES} - {"release"})
)
def test_who_ends_jobs_settles_what_waits_for_them(name: str) -> None:
    """Every transition that may end a job calls `settle`; of `release`, that is its caller's to do."""
    assert "settle" in names_read_by(inspect.unwrap(getattr(MODULES[name], name)).__code__)


def test_no_caller_settles() -> None:
    """Outside of the transitions nobody imports what tells the jobs that wait."""
    callers = (path for path in PACKAGE.rglob("*.py") if "transitions" not in path.parts)
    importing = r"transitions import .*\brelease\b|transitions\.release import .*\b(settle|release)\b"
    assert [path for path in callers if re.search(importing, path.read_text())] == []


def chart() -> list[tuple[str, str]]:
    """The arrows of the chart in docs/architecture.md, from state to state."""
    diagrams = re.findall(r"^stateDiagram-v2\n(.*?)^```", ARCHITECTURE.read_text(), re.DOTALL | re.MULTILINE)
    [diagram] = diagrams
    return re.findall(r"^\s*(\S+) --> (\S+)", diagram, re.MULTILINE)


def test_the_chart_shows_every_transition_once() -> None:
    """An arrow between two states stands for what a statement does, and every such change has one arrow."""
    arrows = [arrow for arrow in chart() if "[*]" not in arrow]
    assert sorted(arrows) == sorted((str(status), str(target)) for status, target in moves_of())


def test_the_chart_begins_with_what_is_inserted_and_ends_with_what_nothing_leaves() -> None:
    """A job begins as the insert says, and the chart's ends are the states that no transition leaves."""
    inserted = re.search(r"CASE WHEN n\.blocked THEN '(\w+)' ELSE '(\w+)' END", new_job_rows._INSERT)  # noqa: SLF001  (the statements are what is compared)
    assert inserted is not None
    assert sorted(target for status, target in chart() if status == "[*]") == sorted(inserted.groups())
    left = {status for status, _ in moves_of()}
    assert sorted(status for status, target in chart() if target == "[*]") == sorted(set(JobStatus) - left)
