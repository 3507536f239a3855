"""The plots of a report: one figure a load and a theme, as SVG."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from bench.load.timeline import PERCENTS, Timeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE_INCHES = (9.0, 7.6)

# The same input makes the same file, byte by byte.
STYLE: Any = {"svg.hashsalt": "goqueue", "font.size": 10.5, "axes.titlesize": 11.5, "legend.fontsize": 10}


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours that are told apart on their background, also by people who do not tell red from green."""

    name: str
    background: str
    text: str
    grid: str
    created: str
    ended: str
    open: str
    waits: tuple[str, str, str]


THEMES = (
    Theme(
        "light",
        "#ffffff",
        "#1f2328",
        "#d8dee4",
        "#0969da",
        "#bc4c00",
        "#6e7781",
        ("#0969da", "#8250df", "#bc4c00"),
    ),
    Theme(
        "dark",
        "#0d1117",
        "#e6edf3",
        "#30363d",
        "#58a6ff",
        "#f0883e",
        "#8d96a0",
        ("#58a6ff", "#d2a8ff", "#f0883e"),
    ),
)


def draw(found: Timeline, title: str, folder: Path, name: str) -> dict[str, Path]:
    """Write a figure in each theme; theme → file."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for theme in THEMES:
        files[theme.name] = folder / f"{name}-{theme.name}.svg"
        with mpl.rc_context(STYLE):
            figure_of(found, title, theme).savefig(
                files[theme.name], facecolor=theme.background, metadata={"Date": None, "Title": title}
            )
    return files


def figure_of(found: Timeline, title: str, theme: Theme) -> Figure:
    """Throughput, open jobs and waits, one above the other, over the same seconds."""
    figure = Figure(figsize=SIZE_INCHES, layout="constrained", facecolor=theme.background)
    throughput, still_open, waits = figure.subplots(3, 1, sharex=True, height_ratios=(3, 2, 3))
    seconds = found.ends
    throughput.plot(seconds, found.created, color=theme.created, label="created")
    throughput.plot(seconds, found.ended, color=theme.ended, linestyle="--", label="ended")
    _dress(throughput, theme, "Throughput", "jobs/s")
    still_open.fill_between(seconds, found.open, color=theme.open, alpha=0.45, linewidth=0)
    still_open.plot(seconds, found.open, color=theme.open)
    _dress(still_open, theme, "Created and not ended yet", "jobs", legend=False)
    for percent, color, style in zip(PERCENTS, theme.waits, ("-", "--", ":"), strict=True):
        milliseconds = [wait * 1000 for wait in found.waits[percent]]
        waits.plot(seconds, milliseconds, color=color, linestyle=style, linewidth=1.8, label=f"p{percent}")
    waits.set_yscale("log")
    _dress(waits, theme, "Wait from created to started, of the jobs created then", "ms (logarithmic)")
    waits.set_xlabel("seconds since the first job", color=theme.text)
    figure.suptitle(title, color=theme.text, fontsize=13)
    return figure


def _dress(axes: Axes, theme: Theme, title: str, unit: str, *, legend: bool = True) -> None:
    axes.set_facecolor(theme.background)
    axes.set_title(title, loc="left", color=theme.text)
    axes.set_ylabel(unit, color=theme.text)
    axes.tick_params(colors=theme.text, which="both")
    axes.grid(visible=True, color=theme.grid, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.yaxis.set_major_formatter(FuncFormatter(_number))
    axes.set_xlim(left=0, auto=None)
    if axes.get_yscale() != "log":
        axes.set_ylim(bottom=0)
    for side, spine in axes.spines.items():
        spine.set_color(theme.grid)
        spine.set_visible(side in {"left", "bottom"})
    if legend:
        # Beside the title, where no line passes.
        axes.legend(
            loc="lower right", bbox_to_anchor=(1.0, 0.97), ncols=3, frameon=False, labelcolor=theme.text
        )


def _number(value: float, _: Any) -> str:
    return f"{value:,.0f}" if value >= 1 or value == 0 else f"{value:g}"
