"""The live view of a load: a frame on a terminal, a line a second elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from bench.statistics import percentile

BLOCKS = "▁▂▃▄▅▆▇█"
LINE_SECONDS = 1.0

#: Rates are those of so many seconds: of a shorter time they would jump.
RATE_SECONDS = 2.0

#: Columns of the frame that are no chart: its label before, its figure behind.
LABEL_WIDTH, FIGURE_WIDTH, GAPS = 11, 24, 6


@dataclass(frozen=True, slots=True)
class Glance:
    """What is known at a moment; times in seconds.

    Attributes:
        waits: p50, p95 and p99 of the jobs that ended last; None where none has.
        answers: how long the latest creates took to be answered.
    """

    created: int
    ended: int
    waits: Sequence[float] | None
    answers: Sequence[float]


@dataclass(slots=True)
class History:
    """The glances so far, and what they make: rates, and charts over time."""

    total: int
    began: float = field(default_factory=time.monotonic)
    moments: list[tuple[float, int, int]] = field(default_factory=list)
    created_rates: list[float] = field(default_factory=list)
    ended_rates: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)

    def add(self, glance: Glance) -> None:
        """Take a glance in."""
        now = time.monotonic()
        self.moments.append((now, glance.created, glance.ended))
        earlier = next((at for at in reversed(self.moments) if now - at[0] >= RATE_SECONDS), self.moments[0])
        seconds = max(now - earlier[0], 1e-9)
        self.created_rates.append((glance.created - earlier[1]) / seconds)
        self.ended_rates.append((glance.ended - earlier[2]) / seconds)
        self.waits.append(glance.waits[1] if glance.waits else 0.0)


class View(Protocol):
    """Shows a glance."""

    def __call__(self, glance: Glance) -> None:
        """Show it."""


@contextmanager
def live_view(total: int, title: str) -> Iterator[View]:
    """Show a load of so many jobs while the block runs."""
    console = Console()
    history = History(total)
    if not console.is_terminal:
        yield _Lines(history)
        return
    with Live(console=console, auto_refresh=False) as live:

        def show(glance: Glance) -> None:
            history.add(glance)
            live.update(frame(history, glance, title, console.width), refresh=True)

        yield show


def frame(history: History, glance: Glance, title: str, width: int) -> RenderableType:
    """The view of a moment, no wider than `width` columns."""
    chart_width = max(10, width - LABEL_WIDTH - FIGURE_WIDTH - GAPS)
    table = Table.grid(padding=(0, 2), expand=False)
    table.add_column(width=LABEL_WIDTH, style="dim", no_wrap=True)
    table.add_column(width=chart_width, no_wrap=True)
    table.add_column(width=FIGURE_WIDTH, no_wrap=True)
    for label, done, style in (("created", glance.created, "blue"), ("ended", glance.ended, "yellow")):
        bar = ProgressBar(history.total, done, width=chart_width, complete_style=style, finished_style=style)
        table.add_row(label, bar, f"{done:>9,} of {history.total:,}")
    for label, rates, style in (
        ("created/s", history.created_rates, "blue"),
        ("ended/s", history.ended_rates, "yellow"),
    ):
        table.add_row(label, Text(chart(rates, chart_width), style), f"{rates[-1] if rates else 0:>9,.0f} /s")
    wait = f"{milliseconds(history.waits[-1] if history.waits else 0):>9} p95"
    table.add_row("wait", Text(chart(history.waits, chart_width), "magenta"), wait)
    heading = Text(title, "bold", overflow="ellipsis", no_wrap=True)
    heading.append(f"  {time.monotonic() - history.began:.0f} s", "dim")
    return Group(heading, table, _details(glance))


def chart(values: Sequence[float], width: int) -> str:
    """The latest values as one line of blocks, up to the greatest of all that are shown."""
    shown = values[-width:]
    greatest = max(shown, default=0.0)
    if greatest <= 0:
        return BLOCKS[0] * len(shown)
    return "".join(BLOCKS[min(len(BLOCKS) - 1, int(value / greatest * len(BLOCKS)))] for value in shown)


def milliseconds(seconds: float) -> str:
    """A short time as a person reads it."""
    if seconds >= 10:
        return f"{seconds:,.1f} s"
    return f"{seconds * 1000:,.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"


def _details(glance: Glance) -> Text:
    parts = [f"open {glance.created - glance.ended:,}"]
    if glance.waits:
        names = zip(("p50", "p95", "p99"), glance.waits, strict=True)
        parts.append("wait " + " ".join(f"{name} {milliseconds(wait)}" for name, wait in names))
    if glance.answers:
        shown = " ".join(f"p{of} {milliseconds(percentile(glance.answers, of))}" for of in (50, 99))
        parts.append(f"POST {shown}")
    return Text(" · ".join(parts), "dim")


class _Lines:
    def __init__(self, history: History) -> None:
        self._history = history
        self._shown_at = 0.0

    def __call__(self, glance: Glance) -> None:
        self._history.add(glance)
        now = time.monotonic()
        if now - self._shown_at >= LINE_SECONDS or glance.ended == self._history.total:
            self._shown_at = now
            total = f"{self._history.total:,}"
            text = f"created {glance.created:,}, ended {glance.ended:,} of {total} · {_details(glance)}"
            Console().print(text, highlight=False, soft_wrap=True)
