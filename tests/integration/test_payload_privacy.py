"""No payload in any log record, however a job fails, whatever the format and the level."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from goqueue.config.settings import Settings, environment_of
from tests.support.engine import QUICK
from tests.support.processes.telltale_worker import SECRET

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_payload_is_logged(settings: Settings, log_format: str) -> None:
    """Jobs with a secret payload fail in every way, at the most talkative level: the log does not hold it."""
    chosen = settings.model_copy(update={**QUICK, "log_format": log_format, "log_level": "DEBUG"})
    environment = environment_of(Settings(**{name: getattr(chosen, name) for name in Settings.model_fields}))
    assert "GOQUEUE_WEBHOOK_SECRET" not in environment
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.processes.telltale_worker"],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "failed" in done.stdout
    assert "ValueError" in done.stderr
    leaks = [line[:400] for line in done.stderr.splitlines() if SECRET in line]
    assert leaks == []
