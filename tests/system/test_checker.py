"""The checker itself: it accepts a good history, and detects each violation in hand-made bad ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.support.chaos.checker import AttemptRow, Effect, Fault, History, JobRow, check

WORKER, OTHER_WORKER = 1, 2


def _good_history() -> History:
    """Job 1 completed; job 2 was killed with its worker and ran again; job 3 failed once and was retried."""
    return History(
        attempted={"one", "two", "three"},
        acknowledged={"one": 1, "two": 2, "three": 3},
        jobs=[
            JobRow(1, "one", "completed", 1, 20.0),
            JobRow(2, "two", "completed", 2, 40.0),
            JobRow(3, "three", "completed", 2, 30.0),
        ],
        attempts=[
            AttemptRow(1, 1, "completed", WORKER, 10.0, 20.0),
            AttemptRow(2, 1, "worker_died", WORKER, 10.0, 30.0),
            AttemptRow(2, 2, "completed", OTHER_WORKER, 32.0, 40.0),
            AttemptRow(3, 1, "failed", OTHER_WORKER, 10.0, 12.0),
            AttemptRow(3, 2, "completed", OTHER_WORKER, 15.0, 30.0),
        ],
        effects=[
            *(_run(1, 1)),
            Effect(2, 1, 1, 100, "start", 10.0),
            *(_run(2, 2)),
            Effect(3, 1, 1, 101, "start", 10.0),
            *(_run(3, 2)),
        ],
        finals={1: JobRow(1, "one", "completed", 1, 20.0)},
        faults=[Fault("kill", 25.0, frozenset({2}))],
        harmed_workers={WORKER},
    )


def _run(job_id: int, fence: int) -> list[Effect]:
    """The lines of a whole _run."""
    return [Effect(job_id, fence, fence, 100, what, 10.0) for what in ("start", "end")]


def test_a_good_history_is_valid_and_its_repeats_and_recoveries_are_told() -> None:
    """Nothing is lost or unexpected; the repeat has its reason and the recovery its time."""
    report = check(_good_history())
    assert report.valid
    assert (report.attempts, report.acknowledged, report.ok, report.failed) == (3, 3, 3, 0)
    assert report.duplicated == {"worker_died": 1}
    assert (report.recovered, report.recovery_seconds) == (1, [7.0])


def _lose_the_row(history: History) -> None:
    history.jobs.pop(0)
    history.attempts.pop(0)
    history.effects = [line for line in history.effects if line.job_id != 1]
    history.finals.clear()


def _leave_a_job_queued(history: History) -> None:
    history.jobs[0] = replace(history.jobs[0], status="queued", fence=0)
    history.attempts.pop(0)
    history.effects = [line for line in history.effects if line.job_id != 1]
    history.finals.clear()


def _leave_an_unacknowledged_job_running(history: History) -> None:
    history.attempted.add("four")
    history.jobs.append(JobRow(4, "four", "running", 1, 50.0))
    history.effects.append(Effect(4, 1, 1, 100, "start", 49.0))


@pytest.mark.parametrize(
    "break_it", [_lose_the_row, _leave_a_job_queued, _leave_an_unacknowledged_job_running]
)
def test_what_is_lost_is_detected(break_it: Callable[[History], None]) -> None:
    """A job without a row or without an end is lost."""
    history = _good_history()
    break_it(history)
    report = check(history)
    assert len(report.lost) == 1
    assert not report.valid


def _invent_a_job(history: History) -> None:
    history.jobs.append(JobRow(4, "nobody's", "failed", 0, 50.0))


def _make_two_jobs_of_one_submit(history: History) -> None:
    history.jobs.append(JobRow(4, "one", "failed", 0, 50.0))


def _acknowledge_with_another_id(history: History) -> None:
    history.acknowledged["one"] = 3


def _change_after_the_end(history: History) -> None:
    history.finals[3] = JobRow(3, "three", "completed", 2, 29.0)


def _rise_from_the_end(history: History) -> None:
    history.changed.append("job 3 was completed and is queued again")


def _vanish_after_the_end(history: History) -> None:
    history.finals[9] = JobRow(9, "nine", "completed", 1, 29.0)


def _complete_twice(history: History) -> None:
    history.attempts[1] = replace(history.attempts[1], outcome="completed")
    history.effects.append(Effect(2, 1, 1, 100, "end", 11.0))


def _complete_without_an_attempt(history: History) -> None:
    history.attempted.add("four")
    history.jobs.append(JobRow(4, "four", "completed", 1, 50.0))


def _complete_the_attempt_only(history: History) -> None:
    history.jobs[0] = replace(history.jobs[0], status="failed")
    history.finals.clear()


def _record_a_later_fence(history: History) -> None:
    history.attempts.append(AttemptRow(1, 2, "interrupted", WORKER, 21.0, 22.0))


def _record_attempts_of_no_job(history: History) -> None:
    history.attempts.append(AttemptRow(9, 1, "interrupted", WORKER, 21.0, 22.0))


def _start_twice_under_one_fence(history: History) -> None:
    history.effects.append(Effect(1, 1, 1, 101, "start", 12.0))


def _start_without_a_record(history: History) -> None:
    history.effects.append(Effect(1, 0, 1, 101, "start", 12.0))


def _start_what_does_not_exist(history: History) -> None:
    history.effects.append(Effect(9, 1, 1, 101, "start", 12.0))


def _record_what_never_started(history: History) -> None:
    history.effects = [line for line in history.effects if line.job_id != 1]


def _record_what_never_ended(history: History) -> None:
    history.effects = [line for line in history.effects if (line.job_id, line.what) != (1, "end")]


def _repeat_without_a_reason(history: History) -> None:
    history.attempts[1] = replace(history.attempts[1], outcome="interrupted")


def _repeat_of_a_worker_that_was_well(history: History) -> None:
    history.harmed_workers = {OTHER_WORKER}


@pytest.mark.parametrize(
    "break_it",
    [
        _invent_a_job,
        _make_two_jobs_of_one_submit,
        _acknowledge_with_another_id,
        _change_after_the_end,
        _rise_from_the_end,
        _vanish_after_the_end,
        _complete_twice,
        _complete_without_an_attempt,
        _complete_the_attempt_only,
        _record_a_later_fence,
        _record_attempts_of_no_job,
        _start_twice_under_one_fence,
        _start_without_a_record,
        _start_what_does_not_exist,
        _record_what_never_started,
        _record_what_never_ended,
        _repeat_without_a_reason,
        _repeat_of_a_worker_that_was_well,
    ],
)
def test_what_is_unexpected_is_detected(break_it: Callable[[History], None]) -> None:
    """Rows and side effects that nobody asked for, and states that cannot be, make a _run invalid."""
    history = _good_history()
    break_it(history)
    report = check(history)
    assert report.lost == []
    assert report.unexpected
    assert not report.valid


def test_a_recovery_without_a_fault_counts_from_the_lost_start() -> None:
    """Nobody notes when a job kills its own worker: its time starts with the attempt that was lost."""
    history = _good_history()
    history.faults.clear()
    assert check(history).recovery_seconds == [22.0]


def test_a_drained_worker_explains_an_interrupted_repeat() -> None:
    """Where the test told a worker to stop, its unfinished jobs may _run again."""
    history = _good_history()
    history.attempts[1] = replace(history.attempts[1], outcome="interrupted")
    history.drained = True
    report = check(history)
    assert report.valid
    assert report.duplicated == {"interrupted": 1}


def test_a_job_whose_answer_was_lost_may_exist() -> None:
    """A client that got no answer may find its job done; that is neither lost nor unexpected."""
    history = _good_history()
    del history.acknowledged["one"]
    report = check(history)
    assert report.valid
    assert (report.acknowledged, report.ok) == (2, 3)
