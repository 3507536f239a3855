"""What a body may cost, however it is made: 200 MiB and five seconds of CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.hostile.bodies import BODIES

ROOT = Path(__file__).parents[2]
ANSWER_MAX_BYTES = 64 * 1024


@pytest.fixture(scope="module")
def sent() -> dict[str, tuple[int, int]]:
    """Status and length of the answer to every body."""
    command = [sys.executable, "-m", "tests.support.hostile.bodies"]
    found: dict[str, tuple[int, int]] = json.loads(subprocess.check_output(command, cwd=ROOT))
    return found


@pytest.mark.timeout(600)
@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
@pytest.mark.parametrize("name", BODIES)
def test_no_body_costs_more_than_it_may(sent: dict[str, tuple[int, int]], name: str) -> None:
    """It is refused within 200 MiB and five seconds of CPU, with a short answer."""
    status, length = sent[name]
    assert 400 <= status < 500
    assert 0 < length < ANSWER_MAX_BYTES
