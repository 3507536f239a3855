"""The faults, each a function that does it to whatever system stands before it.

A scenario ends when every job has ended, when nobody means to run the rest, or when its time is over.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import psutil

from bench.faults.proxy import EMPTY_ANSWERS
from bench.faults.side_effects import CHECKED, ENDED, STARTED
from bench.faults.stands import THREADS, Stand
from bench.processes import Child, wait_until

JOBS = 8
BOOT_SECONDS = 40.0

#: When every job has ended: long enough for a repeat that is on its way to start.
REPEAT_SECONDS = 1.5

#: GoQueue promises that what a dead worker held runs again within this.
RESCUE_SECONDS = 20.0

#: Long enough for every worker thread to fail, and to try to say so.
OUTAGE_SECONDS = 4.0


@dataclass(frozen=True, slots=True)
class Tally:
    """What a fault cost.

    Attributes:
        jobs: how many were created.
        lost: never ended, and the system knows nothing of them any more.
        stuck: never ended within the time, though the system still holds them.
        run_twice: ended more than once.
        note: what else there is to say.
        broken: a promise of its own kind was broken, which the note tells.
    """

    jobs: int
    lost: int
    stuck: int
    run_twice: int
    note: str = ""
    broken: bool = False

    @property
    def harmless(self) -> bool:
        """Whether nothing was lost, stuck, doubled or broken."""
        return not (self.lost or self.stuck or self.run_twice or self.broken)


def failure_while_redis_is_down(stand: Stand) -> Tally:
    """Actors fail while Redis does not answer: their retries cannot be enqueued."""
    stand.start_services()
    stand.start_worker()
    jobs = THREADS
    stand.enqueue("fail_in_outage", range(1, jobs + 1))
    _wait_for_starts(stand, jobs)
    stand.proxy.go_down()
    (stand.folder / "outage").touch()
    time.sleep(OUTAGE_SECONDS)
    stand.proxy.come_back()
    return _tally(stand, jobs, seconds=12)


def time_limit_in_a_hook(stand: Stand) -> Tally:
    """A time limit passes while a middleware's hook runs: the exception kills the worker thread."""
    stand.use_middleware("slow_hook")
    stand.start_services()
    stand.start_worker()
    stand.enqueue("fail_late", range(1, JOBS + 1))
    _wait_for_starts(stand, THREADS)
    return _tally(stand, JOBS, seconds=15)


def lost_answer_of_a_fetch(stand: Stand) -> Tally:
    """Redis hands messages out, and the connection breaks before they arrive."""
    stand.enqueue("simple", range(1, JOBS + 1))
    stand.proxy.cut_answer(stand.fetch_command, spare=EMPTY_ANSWERS)
    stand.start_services()
    stand.start_worker()
    wait_until(lambda: stand.proxy.cut, seconds=BOOT_SECONDS, what="an answer is cut", poll=0.02)
    return _tally(stand, JOBS, seconds=10)


def lost_answer_of_an_enqueue(stand: Stand) -> Tally:
    """Redis takes a message, and the connection breaks before it says so."""
    for number in range(1, JOBS + 1):
        before = stand.proxy.cut
        stand.proxy.cut_answer(stand.enqueue_command)
        stand.enqueue("simple", [number])
        if stand.proxy.cut == before:
            raise RuntimeError("no answer of an enqueue was cut")
    stand.start_services()
    stand.start_worker()
    _wait_for_starts(stand, 1)
    return _tally(stand, JOBS, seconds=10)


def hook_that_raises(stand: Stand) -> Tally:
    """A middleware refuses a job in before_process_message: may the actor run all the same?"""
    stand.use_middleware("guard")
    stand.start_services()
    stand.start_worker()
    stand.enqueue("simple", range(1, JOBS + 1))
    _wait_for_starts(stand, JOBS)
    tally = _tally(stand, JOBS, seconds=10)
    unchecked = stand.effects.counted(STARTED).total() - stand.effects.counted(CHECKED).total()
    return replace(tally, note=f"{unchecked} ran although the hook had raised", broken=unchecked > 0)


def undecodable_message(stand: Stand) -> Tally:
    """One entry that is no message, in one batch with good ones."""
    stand.enqueue("simple", range(1, JOBS + 1))
    stand.put_garbage()
    stand.start_services()
    stand.start_worker()
    wait_until(lambda: not stand.waiting(), seconds=BOOT_SECONDS, what="the batch is fetched", poll=0.02)
    return _tally(stand, JOBS, seconds=10)


def dead_child(stand: Stand) -> Tally:
    """One of two worker processes is killed: do the others go on, and is it replaced?"""
    jobs = 5 * 2 * THREADS
    stand.start_services()
    command = stand.start_supervised(processes=2)
    stand.enqueue("slow", range(1, jobs + 1))
    _wait_for_starts(stand, 2 * THREADS)
    _worker_processes(command)[0].kill()
    tally = _tally(stand, jobs, seconds=RESCUE_SECONDS + 5, over=lambda: command.exit_code is not None)
    note = f"the command goes on; {tally.note}" if command.exit_code is None else "the command has stopped"
    return replace(tally, note=note)


def killed_worker(stand: Stand) -> Tally:
    """The whole worker is killed and started again: when does what it held run?"""
    stand.start_services()
    worker = stand.start_worker()
    stand.enqueue("slow", range(1, JOBS + 1))
    _wait_for_starts(stand, THREADS)
    worker.kill()
    stand.start_worker()
    return _tally(stand, JOBS, seconds=RESCUE_SECONDS + 5)


#: The longest first: they run side by side.
SCENARIOS: dict[str, Callable[[Stand], Tally]] = {
    "dead worker, default settings": killed_worker,
    "one of two processes dies": dead_child,
    "actor fails while Redis is down": failure_while_redis_is_down,
    "time limit lands in a hook": time_limit_in_a_hook,
    "lost answer of a fetch": lost_answer_of_a_fetch,
    "lost answer of an enqueue": lost_answer_of_an_enqueue,
    "before_process_message raises": hook_that_raises,
    "undecodable message in a batch": undecodable_message,
}


def _tally(stand: Stand, jobs: int, *, seconds: float, over: Callable[[], bool] = lambda: False) -> Tally:
    """Wait for the end of the scenario, and count."""
    began = time.monotonic()
    everyone = set(range(1, jobs + 1))
    while time.monotonic() < began + seconds and not over():
        unfinished = everyone - set(stand.effects.counted(ENDED))
        if not (unfinished & stand.pending()) and not (stand.pending() - unfinished):
            break
        time.sleep(0.2)
    time.sleep(REPEAT_SECONDS)
    ended = stand.effects.counted(ENDED)
    pending, failed = stand.pending(), stand.failed()
    unfinished = everyone - set(ended)
    last = max(0.0, stand.effects.last(ENDED) - began)
    return Tally(
        jobs=jobs,
        lost=len(unfinished - pending - failed),
        stuck=len(pending),
        run_twice=sum(count > 1 for count in ended.values()),
        note=_ending(time.monotonic() - began, last, unfinished, pending),
    )


def _ending(seconds: float, last: float, unfinished: set[int], pending: set[int]) -> str:
    """How long it took, or how long was waited for what is stuck."""
    if not unfinished:
        return f"the last job ended after {last:.1f} s"
    return f"not redelivered within {seconds:.0f} s" if unfinished & pending else ""


def _wait_for_starts(stand: Stand, count: int) -> None:
    wait_until(
        lambda: len(stand.effects.counted(STARTED)) >= count,
        seconds=BOOT_SECONDS,
        what=f"{count} jobs start",
        poll=0.02,
    )


def _worker_processes(command: Child) -> list[psutil.Process]:
    """The processes that work: those with worker threads."""
    return [process for process in command.tree() if process.num_threads() > THREADS]
