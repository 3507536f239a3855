"""The arithmetic of docs/scaling.md, done again from the numbers of the page."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import capacity

PAGE = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text()


def test_the_capacity_table_follows_from_the_costs() -> None:
    """Every figure of the capacity table is what the page's own costs of a job make it."""
    costs = capacity.read_cost_table(capacity.read_markdown(PAGE, capacity.COST_HEADINGS))
    printed = capacity.read_markdown(PAGE, capacity.CAPACITY_HEADINGS)
    assert printed == [list(row) for row in capacity.capacity_table(costs)]
    assert len(printed) == len(capacity.JOBS_A_DAY) * len(capacity.CREATED)


def test_the_assumptions_are_those_of_the_page() -> None:
    """The page names the constants that the arithmetic uses."""
    for text in (
        f"peak = {capacity.PEAK} \N{MULTIPLICATION SIGN} mean",
        f"PostgreSQL's cores ÷ {capacity.POSTGRES_CORES:g}",
        f"WAL ÷ {capacity.WAL_MB:g} MB/s",
        f"disk ÷ {capacity.DISK_TB:g} TB",
        f"÷ {capacity.SINGLE_THREAD_CORES:g}",
        f"GOQUEUE_COMPLETED_RETENTION_SECONDS={capacity.RETENTION_DAYS * capacity.DAY_SECONDS}",
    ):
        assert text in PAGE


def test_the_arithmetic_by_hand() -> None:
    """A thousand bytes of WAL and a tenth of a millisecond for each of 864 million jobs a day."""
    ways = dict.fromkeys(capacity.CREATED, 0.0)
    costs = {cost: dict(ways) for cost in capacity.COSTS}
    costs[capacity.WAL] = dict.fromkeys(capacity.CREATED, 900.0) | {capacity.DELETED: 100.0}
    costs[capacity.POSTGRES] = dict.fromkeys(capacity.CREATED, 0.1)
    costs[capacity.DISK] = dict.fromkeys(capacity.CREATED, 1000.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(capacity, "JOBS_A_DAY", (864_000_000,))
        row = capacity.capacity_table(costs)[0]
    # 10,000 a second, 30,000 at the peak: 30 MB/s, three cores, 864 GB a day.
    assert row == (
        "864,000,000",
        "one by one",
        "10,000 · 30,000",
        "0",
        "30.0",
        "0",
        "0.00 · 0.00 · 0.00 · 3.00 · 0.00",
        "864",
        "1",
    )


def test_what_was_printed_is_read_back() -> None:
    """A table of costs survives the page."""
    costs = {cost: dict.fromkeys((*capacity.CREATED, capacity.DELETED), 1.25) for cost in capacity.COSTS}
    costs[capacity.WAL] = dict.fromkeys(capacity.CREATED, 2345.0)
    text = capacity.markdown(capacity.COST_HEADINGS, capacity.cost_table(costs))
    assert (
        capacity.read_cost_table(capacity.read_markdown(f"before\n\n{text}\n\nafter", capacity.COST_HEADINGS))
        == costs
    )


def test_new_tables_replace_the_old() -> None:
    """A document gets its content between the marks of that name, and keeps the rest."""
    page = "a\n<!-- begin: x -->\nold\n<!-- end -->\nb\n<!-- begin: y -->\n<!-- end -->\n"
    changed = capacity.put(capacity.put(page, "x", "new"), "y", "more")
    assert changed == page.replace("old", "new").replace("y -->\n", "y -->\nmore\n")
    with pytest.raises(ValueError, match="substring"):
        capacity.put(page, "z", "new")
