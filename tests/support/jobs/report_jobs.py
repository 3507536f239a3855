"""A job that says how far it is and waits for its test, for what is watched in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import goqueue
from tests.support.waiting import wait_until

__all__ = ["make_report"]

#: No test waits longer.
PATIENCE_SECONDS = 60


@goqueue.actor(queue="reports", name="make_report", max_retries=0)
def make_report(gate: str, name: str, *, fails: bool = False, lines: int = 0) -> dict[str, Any]:
    """Log so many lines, say that half is done, wait until the file of this name is there, and end."""
    job = goqueue.current_job()
    job.log(f"began {name}")
    for number in range(lines):
        job.log(f"line {number}")
    job.progress(0.5, "half of it")
    wait_until(Path(gate).exists, PATIENCE_SECONDS, poll_seconds=0.05)
    job.log(f"went on with {name}")
    if fails:
        raise ValueError(f"the report {name} cannot be made")
    return {"name": name, "pages": [1, 2, 3]}
