"""The tables of docs/access.md: what every role may do, as people are told."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

__all__ = ["OperationRow", "PageRow", "operation_rows", "page_rows", "role_table", "scope_names"]

_PAGE = Path(__file__).parents[2] / "docs" / "access.md"
_CODE = re.compile(r"`([^`]+)`")


class OperationRow(NamedTuple):
    """A row of the table of operations."""

    method: str
    path: str
    scope: str | None
    restricted: str


class PageRow(NamedTuple):
    """A row of the table of pages."""

    template: str
    reads: Sequence[str]
    changes: Sequence[str]


@functools.cache
def _rows(heading: str) -> Sequence[Sequence[str]]:
    section = _PAGE.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    assert len(lines) > 2, f"docs/access.md has a table under {heading}"
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def scope_names() -> list[str]:
    """Every scope."""
    return [_CODE.findall(row[0])[0] for row in _rows("Scopes")]


def role_table() -> Mapping[str, frozenset[str]]:
    """Role → its scopes; `admin` among them allows all."""
    return {_CODE.findall(row[0])[0]: frozenset(_CODE.findall(row[1])) for row in _rows("Roles")}


def operation_rows() -> list[OperationRow]:
    """Every operation of the API."""
    found = []
    for row in _rows("Operations"):
        method, path = _CODE.findall(row[0])[0].split(" ")
        scopes = _CODE.findall(row[1])
        found.append(OperationRow(method, path, scopes[0] if scopes else None, row[2]))
    return found


def page_rows() -> list[PageRow]:
    """Every page of the dashboard."""
    return [
        PageRow(_CODE.findall(row[0])[0], _CODE.findall(row[1]), _CODE.findall(row[2]))
        for row in _rows("Pages of the dashboard")
    ]
