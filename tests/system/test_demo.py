"""`goqueue demo`: every number is counted, and a wrong one is noticed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

#: These start many processes; on two busy cores that takes its time.
pytestmark = pytest.mark.timeout(300)


def run_demo(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a small demo whose temporary folder is inside `folder`."""
    return subprocess.run(
        [sys.executable, "-m", "goqueue", "demo", "--jobs", "60", *options],
        env={"TMPDIR": str(folder), "PATH": "/usr/bin:/bin", "COLUMNS": "100"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_number_is_as_expected(tmp_path: Path) -> None:
    """The demo exits with 0 after a summary in which every number is right, and leaves nothing behind."""
    done = run_demo(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "numbers are as expected" in done.stdout
    assert "✗" not in done.stdout
    for what in ("Dead letters", "jobs/s", "payments charged exactly once", "p95"):
        assert what in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_count_is_exit_one(tmp_path: Path) -> None:
    """A number that differs from what is expected is named, and is exit 1."""
    done = run_demo(tmp_path, "--sabotage=1")
    assert done.returncode == 1
    assert "wrong: mails received: expected" in done.stdout
    assert "✗" in done.stdout
