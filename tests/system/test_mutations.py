"""Proof that the checker sees what it is for: the same runs with one promise switched off must be invalid."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.processes.stack import FAST_LEASES, Stack
from tests.support.waiting import wait_until
from tests.system.scenarios import killed_worker, silent_worker, wiped_runway

SABOTAGE = "tests.support.chaos.sabotage"


def test_without_the_fence_a_silent_worker_is_noticed(data_folder: Path) -> None:
    """MUTATION: when recording asks neither fence nor state, the checker calls the run invalid."""
    with Stack(data_folder, sabotage=f"{SABOTAGE}.no_fence", **FAST_LEASES) as stack:
        silent_worker(stack)
        stack.wait_until_finished(30)
        report = stack.report()
        assert not report.valid
        assert any("after its end" in text or "again" in text for text in report.unexpected)


@pytest.mark.parametrize(
    "sabotage", [None, f"{SABOTAGE}.no_rescuer"], ids=["as it is", "MUTATION: no rescuer"]
)
def test_without_the_rescuer_jobs_of_a_killed_worker_are_lost(
    data_folder: Path, sabotage: str | None
) -> None:
    """Jobs of a killed worker complete; when the rescuer does nothing, the checker calls them lost."""
    with Stack(data_folder, sabotage=sabotage, **FAST_LEASES) as stack:
        killed_worker(stack)
        _settle(stack, is_well=sabotage is None)
        report = stack.report()
        assert report.valid is (sabotage is None)
        assert any("is running" in text for text in report.lost) is (sabotage is not None)


@pytest.mark.parametrize(
    "sabotage", [None, f"{SABOTAGE}.no_dispatcher"], ids=["as it is", "MUTATION: no re-push"]
)
def test_without_the_re_push_jobs_of_a_wiped_redis_are_lost(data_folder: Path, sabotage: str | None) -> None:
    """Jobs whose messages were wiped complete; when nothing is pushed again, the checker calls them lost."""
    with Stack(data_folder, sabotage=sabotage, **FAST_LEASES) as stack:
        wiped_runway(stack)
        _settle(stack, is_well=sabotage is None)
        report = stack.report()
        assert report.valid is (sabotage is None)
        assert any("is queued" in text for text in report.lost) is (sabotage is not None)


def _settle(stack: Stack, *, is_well: bool) -> None:
    """The end of the run; a sabotaged one gets twice a lease, in which nothing moves any more."""
    if is_well:
        stack.wait_until_finished(30)
        return
    quiet = "SELECT now() - max(updated_at) > interval '4 seconds' FROM jobs"
    wait_until(lambda: stack.rows(quiet)[0][0], 30, "nothing to move any more")
