"""The pure parts of the load test: the mixture, the count, the timeline, the live view, the plots."""

from __future__ import annotations

import io
import json
import math
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from bench.load import __main__ as command
from bench.load.live import BLOCKS, Glance, History, chart, frame
from bench.load.mixture import KINDS, Kind, mixture
from bench.load.numbers import Effects, numbers_of
from bench.load.plots import draw
from bench.load.record import JobRow
from bench.load.report import write_report
from bench.load.run import Load
from bench.load.timeline import timeline, waits_of

NOOP = KINDS[0]
RETRIED = next(kind for kind in KINDS if kind.runs == 2)
MAIL = next(kind for kind in KINDS if kind.type == "send_email")

TOLD: dict[int, Kind] = {1: NOOP, 2: RETRIED, 3: MAIL}
ROWS = [
    JobRow(1, "completed", 1, 0, 100.0, 100.5, 100.1, 1, 1),
    JobRow(2, "completed", 2, 0, 100.0, 101.5, 100.2, 2, 1),
    JobRow(3, "completed", 1, 0, 101.0, 101.2, 101.1, 1, 1),
]
EFFECTS = Effects(runs=3, mails=Counter(["a"]), charges=Counter(), webhooks=Counter())


def wrong(
    rows: list[JobRow] = ROWS,
    told: dict[int, Kind] = TOLD,
    told_twice: tuple[int, ...] = (),
    effects: Effects = EFFECTS,
) -> set[str]:
    """The numbers that are not as expected."""
    return {number.what for number in numbers_of(3, told, told_twice, rows, effects) if not number.is_right}


def test_a_mixture_has_exactly_so_many_jobs_and_is_the_same_every_time() -> None:
    """Shares are of a thousand, what they leave over is of the first kind, and payloads differ."""
    jobs = mixture(1_000, "http://hooks")
    assert Counter(job.kind.name for job in jobs) == {kind.name: kind.share for kind in KINDS}
    assert mixture(1_000, "http://hooks") == jobs
    assert len(mixture(37, "http://hooks")) == 37
    assert len({repr((job.kind.name, job.request["payload"])) for job in jobs}) > 900
    assert {job.request["priority"] for job in jobs} == {-1, 0, 1}


def test_a_load_without_a_loss_has_no_wrong_number() -> None:
    """What was told, what is recorded and what was done agree."""
    assert wrong() == set()


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (wrong(rows=ROWS[1:]), "lost: told, and no row"),
        (wrong(rows=[*ROWS, ROWS[0]._replace(id=4)]), "invented: a row that nobody was told of"),
        (wrong(told_twice=(1,)), "ids that were told twice"),
        (wrong(rows=[ROWS[0]._replace(status="running"), *ROWS[1:]]), "completed"),
        (wrong(rows=[ROWS[0], ROWS[1]._replace(attempts=1), ROWS[2]]), "took more or fewer attempts"),
        (wrong(rows=[ROWS[0]._replace(completed=2), *ROWS[1:]]), "completed more than once"),
        (wrong(rows=[ROWS[0]._replace(recorded=0), *ROWS[1:]]), "attempts recorded"),
        (wrong(effects=replace(EFFECTS, runs=4)), "handler runs"),
        (wrong(effects=replace(EFFECTS, mails=Counter(["a", "a"]))), "mails received twice"),
        (wrong(effects=replace(EFFECTS, failed_processes=1)), "processes that did not end well"),
    ],
    ids=[
        "lost",
        "invented",
        "told twice",
        "open",
        "attempts",
        "twice",
        "unrecorded",
        "runs",
        "mails",
        "processes",
    ],
)
def test_whatever_is_wrong_is_a_wrong_number(found: set[str], expected: str) -> None:
    """Each way to go wrong shows in a number of its own."""
    assert expected in found


@pytest.mark.parametrize(("rows", "exit_code"), [(ROWS, 0), (ROWS[1:], 1)], ids=["all there", "one lost"])
def test_a_wrong_number_is_exit_one(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    rows: list[JobRow],
    exit_code: int,
) -> None:
    """What is wrong is named, and is exit code 1."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    load = Load(3, numbers_of(3, TOLD, [], rows, EFFECTS), rows, [0.1], [0.2])
    monkeypatch.setattr(command, "run_load", lambda *_: load)
    assert command.main(["--jobs", "3"]) == exit_code
    output = capsys.readouterr().out
    assert ("wrong: lost: told, and no row: expected 0, counted 1" in output) == bool(exit_code)
    assert ("numbers are as expected" in output) == (not exit_code)


def test_the_page_has_every_number_and_a_plot_for_each_theme(tmp_path: Path) -> None:
    """The report is a page, its plots beside it, and the figures as JSON."""
    load = Load(3, numbers_of(3, TOLD, [], ROWS, EFFECTS), ROWS, [0.1], [0.2])
    write_report([load], tmp_path / "load.md", tmp_path / "load.json")
    page = (tmp_path / "load.md").read_text()
    assert "**2 jobs a second**" in page
    assert page.count("✓") == len(load.numbers)
    for plot in ("load/jobs-3-dark.svg", "load/jobs-3-light.svg"):
        assert plot in page
        assert (tmp_path / plot).exists()
    assert json.loads((tmp_path / "load.json").read_text())["loads"][0]["jobs_per_second"] == 2.0


def test_the_timeline_counts_every_job_once() -> None:
    """Rates multiplied by the width add up to the jobs; waits belong to the time of creation."""
    found = timeline(ROWS)
    assert sum(found.created) * found.width == pytest.approx(3)
    assert sum(found.ended) * found.width == pytest.approx(3)
    assert found.open[-1] == 0
    assert max(found.open) == 2
    assert found.waits[99][0] == pytest.approx(0.2)
    assert math.isnan(found.waits[50][1])
    assert waits_of(ROWS) == pytest.approx([0.1, 0.2, 0.1])


def test_a_chart_reaches_its_top_at_the_greatest_value() -> None:
    """One block a value, the latest at the right; nothing is drawn for a load that has not begun."""
    assert chart([0, 1, 2, 4], 4) == f"{BLOCKS[0]}{BLOCKS[2]}{BLOCKS[4]}{BLOCKS[7]}"
    assert chart([9, 9, 1], 1) == BLOCKS[7]
    assert chart([], 10) == ""
    assert chart([0, 0], 10) == BLOCKS[0] * 2


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_live_view_fits_its_terminal(width: int) -> None:
    """No line is wider than the terminal, with the largest figures too."""
    history = History(total=100_000)
    glance = Glance(100_000, 99_999, (0.0123, 1.5, 12.5), [0.0041, 0.25])
    for _ in range(200):
        history.add(glance)
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(frame(history, glance, "100,000 jobs · 8 clients · 2 x 8 worker threads", width))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= width
    assert len(lines) <= 9
    assert any("100,000 of 100,000" in line for line in lines)


def test_plots_are_drawn_for_both_themes_and_always_the_same(tmp_path: Path) -> None:
    """A file a theme, on its own background; the same figures make the same bytes."""
    files = draw(timeline(ROWS), "3 jobs", tmp_path, "jobs-3")
    assert set(files) == {"light", "dark"}
    first = {theme: path.read_bytes() for theme, path in files.items()}
    assert b"#0d1117" in first["dark"]
    assert b"#0d1117" not in first["light"]
    draw(timeline(ROWS), "3 jobs", tmp_path, "jobs-3")
    assert {theme: path.read_bytes() for theme, path in files.items()} == first
