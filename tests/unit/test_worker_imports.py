"""What a worker process imports, which is most of its memory."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = "import sys, goqueue.actors; print(' '.join(sys.modules))"


@pytest.fixture(scope="module")
def imported() -> set[str]:
    """The modules of a process that has imported what a worker imports."""
    environment = {
        "GOQUEUE_DATABASE_URL": "postgresql://nobody@127.0.0.1/none",
        "GOQUEUE_REDIS_URL": "redis://127.0.0.1",
    }
    answer = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
    )
    return set(answer.stdout.split())


@pytest.mark.parametrize("module", ["sqlalchemy.orm", "httpx", "httpcore", "alembic", "falcon"])
def test_a_worker_imports_nothing_large_before_it_needs_it(imported: set[str], module: str) -> None:
    """Sessions, migrations and pages are other processes', and webhooks other workers'."""
    assert "goqueue.worker.broker" in imported
    assert module not in imported
