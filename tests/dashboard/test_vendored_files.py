"""What comes from others is what is written down, and everything that the package needs is in it."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import tomllib
from pathlib import Path

import pytest

from goqueue.dashboard.assets import Assets

ROOT = Path(__file__).parents[2]
DASHBOARD = ROOT / "goqueue" / "dashboard"
FOLDERS = [DASHBOARD / "static" / "vendor", ROOT / "tests" / "browser" / "vendor"]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_file_is_that_of_its_package(folder: Path) -> None:
    """Its hash is the one that was recorded, and its licence lies beside it."""
    records = json.loads((folder / "vendor.json").read_text())
    assert {record["file"] for record in records} == {
        path.name for path in folder.iterdir() if path.suffix in {".js", ".css"}
    }
    for record in records:
        assert set(record) == {"name", "version", "licence", "licence_file", "source", "file", "sha256"}
        content = (folder / record["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == record["sha256"], record["file"]
        assert len((folder / record["licence_file"]).read_text()) > 500


def test_the_package_holds_every_file_of_the_dashboard() -> None:
    """Templates, what is served, and the licences of what comes from others."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["goqueue"]
    files = [
        path.relative_to(ROOT / "goqueue").as_posix()
        for folder in ("static", "templates")
        for path in (DASHBOARD / folder).rglob("*")
        if path.is_file()
    ]
    assert len(files) > 20
    assert [name for name in files if not any(_matches(name, pattern) for pattern in patterns)] == []


def _matches(name: str, pattern: str) -> bool:
    """As setuptools reads a pattern: a star stays in its folder."""
    return name.count("/") == pattern.count("/") and fnmatch.fnmatch(name, pattern)


def test_everything_that_a_page_names_is_served() -> None:
    """A file that a template asks for is there, by a name that changes with it."""
    assets = Assets()
    for name in ("dashboard.css", "dashboard.js", "theme.js", "icon.svg", "vendor/htmx.min.js"):
        assert assets.url(name).startswith(f"/dashboard/static/{name}?v=")
        assert assets.content(name)
