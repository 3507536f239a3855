"""The rows of the table: a figure, what it is compared with, and its target."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HEADINGS = ("measured", "unit", "GoQueue", "yardstick", "ratio", "target", "")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        key: its name in the JSON.
        title, unit: what was measured, in what.
        goqueue: GoQueue's figure.
        yardstick: what it is compared with, and that one's figure; a name alone says why there is none.
        compares: "ratio" judges goqueue / yardstick by the target, "value" GoQueue's figure alone.
        target: the least (or, where `at_most`, the greatest) that passes.
    """

    key: str
    title: str
    unit: str
    goqueue: float
    yardstick: float | None = None
    yardstick_name: str = ""
    compares: str = "value"
    target: float | None = None
    at_most: bool = False

    @property
    def ratio(self) -> float | None:
        """How GoQueue's figure stands to the yardstick's."""
        return self.goqueue / self.yardstick if self.yardstick else None

    @property
    def passes(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        judged = self.ratio if self.compares == "ratio" else self.goqueue
        if self.target is None or judged is None:
            return None
        return judged <= self.target if self.at_most else judged >= self.target


def table(rows: Sequence[Row]) -> str:
    """The rows as text for a person."""
    cells = [HEADINGS, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEADINGS))]
    lines = ["  ".join(_aligned(line, widths)).rstrip() for line in cells]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def write_json(path: Path, rows: Sequence[Row], **about: Any) -> None:
    """Keep the figures, with what they were measured on."""
    content = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "system": platform.platform(),
        },
        **about,
        "rows": {row.key: _rounded(asdict(row) | {"ratio": row.ratio, "passes": row.passes}) for row in rows},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")


def _rounded(figures: dict[str, Any]) -> dict[str, Any]:
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in figures.items()}


def _cells(row: Row) -> tuple[str, ...]:
    verdict = {True: "met", False: "MISSED", None: ""}[row.passes]
    yardstick = f"{_number(row.yardstick)} {row.yardstick_name}".strip()
    ratio = f"{row.ratio:.2f} x" if row.ratio is not None else ""
    return (row.title, row.unit, _number(row.goqueue), yardstick, ratio, _target(row), verdict)


def _target(row: Row) -> str:
    if row.target is None:
        return ""
    sign = "<=" if row.at_most else ">="
    return f"{sign} {row.target:g} x" if row.compares == "ratio" else f"{sign} {_number(row.target)}"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def _aligned(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    left = {0, 1, 3, 6}
    return [
        cell.ljust(width) if column in left else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(line, widths, strict=True))
    ]
