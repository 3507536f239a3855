"""`python -m bench.load`: nothing is lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: These start many processes; on two busy cores that takes its time.
pytestmark = pytest.mark.timeout(300)


def run_load(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a load whose temporary folder is inside `folder`."""
    return subprocess.run(
        [sys.executable, "-m", "bench.load", *options],
        env={"TMPDIR": str(folder), "PATH": "/usr/bin:/bin", "COLUMNS": "100"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_thousand_jobs_are_all_accounted_for(tmp_path: Path) -> None:
    """Every job that clients were told of ends as its kind does, once; and nothing is left behind."""
    done = run_load(tmp_path, "--jobs", "1000")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "numbers are as expected" in done.stdout
    assert "✗" not in done.stdout
    assert "ended 1,000 of 1,000" in done.stdout
    assert list(tmp_path.iterdir()) == []
