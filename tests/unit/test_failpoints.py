"""Failpoints: what they do when armed, and that a wrong setting says so."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from goqueue import failpoints
from goqueue.errors import ConfigurationError


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    """Whatever a test armed is off again."""
    yield
    failpoints.configure("")


def test_an_unarmed_point_does_nothing() -> None:
    """Without the setting every point is passed."""
    for point in failpoints.POINTS:
        failpoints.hit(point)


@pytest.mark.parametrize("point", sorted(failpoints.POINTS))
def test_an_armed_point_acts_and_its_neighbours_do_not(point: str) -> None:
    """Only the named point is hit."""
    failpoints.configure(f"{point}:raise")
    for other in failpoints.POINTS - {point}:
        failpoints.hit(other)
    with pytest.raises(failpoints.FailpointError):
        failpoints.hit(point)


def test_probabilities_are_kept() -> None:
    """Zero never acts, and configuring again replaces what was armed."""
    failpoints.configure("after_push:raise:0, in_dispatch:delay=0:1")
    failpoints.hit("after_push")
    failpoints.hit("in_dispatch")
    failpoints.configure("after_claim:raise:1")
    failpoints.hit("in_dispatch")


@pytest.mark.parametrize(("action", "code"), [("kill", -9), ("exit", 70)])
def test_a_process_can_be_ended(action: str, code: int) -> None:
    """`kill` ends this process by SIGKILL, `exit` without any clean-up."""
    script = (
        "import atexit; from goqueue import failpoints; atexit.register(print, 'cleaned up'); "
        f"failpoints.configure('after_push:{action}'); failpoints.hit('after_push'); print('alive')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (code, b"")


@pytest.mark.parametrize(
    "text",
    [
        "nowhere:raise",
        "after_push:explode",
        "after_push",
        "after_push:raise:2",
        "after_push:raise:-0.1",
        "after_push:raise:nan",
        "after_push:raise:often",
        "after_push:delay=",
        "after_push:delay=soon",
        "after_push:delay=-1",
        "after_push:delay=nan",
        "after_push:raise,nowhere:raise",
    ],
)
def test_a_wrong_setting_says_so_and_arms_nothing(text: str) -> None:
    """Anything but a point, an action and a probability is a configuration error, and nothing is armed."""
    with pytest.raises(ConfigurationError, match="GOQUEUE_FAILPOINTS"):
        failpoints.configure(text)
    failpoints.hit("after_push")
