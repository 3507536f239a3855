"""Random faults, and the checker's verdict: `python -m tests.system.chaos --minutes 10`."""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psutil

from goqueue.errors import DatabaseUnavailableError
from goqueue.insight.explain import explaining
from tests.support.chaos.checker import Report
from tests.support.chaos.flow_load import FLOW_ACTORS, FlowLoad
from tests.support.processes.stack import FAST_LEASES, Stack, load
from tests.support.waiting import wait_until

#: How long a fault rests before the next: long enough to recover from some, not from all.
PAUSE_SECONDS = (0.1, 1.5)

#: After the last fault everything that was accepted has ended within this time.
DRAIN_SECONDS = 60.0

#: Of those that have not, so many are asked why.
ASKED_MAX = 1000

#: What a kill from outside hardly ever hits: between two steps of a worker; and commits that take their time.
FAILPOINTS = "after_claim:kill:0.004,after_record_before_ack:kill:0.004,before_record_commit:delay=0.2:0.05"

PILLS = ("pill_sigkill", "pill_segfault", "pill_exit")


class Nemesis:
    """Does random harm to a stack; what it stopped it also starts again.

    Args:
        dice: decides what, whom and when.
    """

    def __init__(self, stack: Stack, dice: random.Random) -> None:
        self._stack = stack
        self._api = stack.api()
        self._schedulers = [stack.scheduler() for _ in range(2)]
        self._dice = dice
        self.faults: Counter[str] = Counter()

    def strike(self) -> None:
        """Do one thing, and wait a while."""
        faults: list[Callable[[], None]] = [
            self.kill_worker,
            self.kill_worker,
            self.kill_host,
            self.pause_worker,
            self.drain_worker,
            self.kill_scheduler,
            self.pause_scheduler,
            self.kill_api,
            self.feed_a_pill,
            self.wipe_redis,
            self.restart_valkey,
            self.restart_postgres,
            self.cut_answers,
            self.hang_redis,
        ]
        fault = self._dice.choice(faults)
        self.faults[fault.__name__] += 1
        with suppress(DatabaseUnavailableError):
            fault()
        self.rest(self._dice.uniform(*PAUSE_SECONDS))

    def rest(self, seconds: float) -> None:
        """Let some time pass, in which the stack is tended."""
        ends_at = time.monotonic() + seconds
        wait_until(lambda: time.monotonic() >= ends_at, seconds + 60, "the time to pass")

    def kill_worker(self) -> None:
        """SIGKILL."""
        pids = self._stack.worker_pids()
        if pids:
            self._stack.kill(self._dice.choice(pids))

    def kill_host(self) -> None:
        """SIGKILL all of them at once."""
        pids = self._stack.worker_pids()
        if pids:
            self._stack.kill(*pids, kind="kill host")

    def pause_worker(self) -> None:
        """SIGSTOP for up to two leases, then SIGCONT."""
        pids = self._stack.worker_pids()
        if pids:
            pid = self._dice.choice(pids)
            self._stack.pause(pid)
            self.rest(self._dice.uniform(0.5, 4.0))
            self._stack.resume(pid)

    def drain_worker(self) -> None:
        """SIGTERM: it gives back what it cannot finish in time, and a new one takes its place."""
        pids = self._stack.worker_pids()
        if pids:
            self._stack.collector.history.drained = True
            self._stack.collector.note_fault("drain")
            self._stack.signal(self._dice.choice(pids), signal.SIGTERM)

    def kill_scheduler(self) -> None:
        """SIGKILL the leader or the standby; a new standby takes its place."""
        number = self._dice.randrange(len(self._schedulers))
        self._stack.kill(self._schedulers[number].pid, kind="kill scheduler")
        self._schedulers[number] = self._stack.scheduler()

    def pause_scheduler(self) -> None:
        """SIGSTOP one while it may be leading, and SIGCONT when the other may have taken over."""
        pid = self._dice.choice(self._schedulers).pid
        self._stack.pause(pid)
        self.rest(self._dice.uniform(0.5, 4.0))
        self._stack.resume(pid)

    def kill_api(self) -> None:
        """SIGKILL a process that answers; gunicorn starts another one."""
        with suppress(psutil.NoSuchProcess, IndexError):
            children = psutil.Process(self._api.pid).children()
            self._stack.kill(self._dice.choice(children).pid, kind="kill api")

    def feed_a_pill(self) -> None:
        """A job that kills whatever process runs it."""
        self._stack.collector.submit(self._dice.choice(PILLS))

    def wipe_redis(self) -> None:
        """FLUSHALL."""
        self._stack.collector.note_fault("flushall")
        self._stack.redis.flushall()

    def restart_valkey(self) -> None:
        """Crash, a while without, and back."""
        self._stack.collector.note_fault("valkey")
        self._stack.valkey.kill()
        self.rest(self._dice.uniform(0, 2))
        self._stack.valkey.start()

    def restart_postgres(self) -> None:
        """In order or by a crash."""
        self._stack.collector.note_fault("postgresql")
        self._stack.postgres.restart(self._dice.choice(("fast", "immediate")))

    def cut_answers(self) -> None:
        """Answers of Redis get lost after it did what was asked."""
        assert self._stack.proxy is not None
        command = self._dice.choice(("BLMPOP", "EVALSHA", "HDEL"))
        self._stack.collector.note_fault(f"cut {command}")
        self._stack.proxy.cut(command, times=self._dice.randint(1, 5))

    def hang_redis(self) -> None:
        """Nothing passes for a moment."""
        assert self._stack.proxy is not None
        self._stack.collector.note_fault("hang")
        self._stack.proxy.black_hole()
        self.rest(self._dice.uniform(0.5, 3))
        self._stack.proxy.heal()


def drain(stack: Stack, flow: FlowLoad) -> float:
    """Wait until everything has ended; how long it took.

    Raises:
        AssertionError: it took too long; why each waits is printed.
    """
    started = time.monotonic()
    try:
        flow.settle(DRAIN_SECONDS)
    except AssertionError:
        for reason, number in why_waiting(stack).most_common():
            print(f"{number} unfinished: {reason}", flush=True)  # noqa: T201
        raise
    return time.monotonic() - started


def why_waiting(stack: Stack) -> Counter[str]:
    """What keeps the jobs that have not ended, by their state and the first reason of their explanation."""
    unfinished = stack.rows("SELECT id FROM jobs WHERE finished_at IS NULL LIMIT %s", (ASKED_MAX,))
    reasons: Counter[str] = Counter()
    for (job_id,) in unfinished:
        explanation = explaining.explain_job(stack.database, stack.settings, job_id)
        reasons[
            f"{explanation.status}, {explanation.reasons[0].code if explanation.reasons else 'ended'}"
        ] += 1
    return reasons


def run(folder: Path, seconds: float, seed: int, leases: Mapping[str, Any] = FAST_LEASES) -> Report:
    """Run a whole stack under load and faults for so long, let it drain, and judge."""
    with (
        Stack(folder, proxied=True, actors=FLOW_ACTORS, api_processes=2, **leases) as stack,
        closing(FlowLoad(stack, random.Random(seed + 1))) as flow,
    ):
        nemesis = Nemesis(stack, random.Random(seed))
        flow.prepare()
        frail = stack.supervisor(2, failpoints=FAILPOINTS)
        stack.supervisor(1, threads=1, worker_queues=("quarantine",))
        wait_until(lambda: len(stack.worker_pids()) >= 3, 30, "the workers to register")
        ends_at = time.monotonic() + seconds
        slow = load(stack, "slow", batch=2, seconds=0.2)
        with load(stack, batch=5), load(stack, "fails_once", batch=2), slow, flow.running():
            while time.monotonic() < ends_at:
                nemesis.strike()
        assert stack.proxy is not None
        stack.proxy.heal()
        # Workers that do not kill themselves take over: this was the last fault.
        stack.collector.history.drained = True
        stack.supervisor(2)
        frail.terminate()
        drained_seconds = drain(stack, flow)
        flow.prove()
        report = stack.report()
        report.unexpected += flow.verdict()
        refused = stack.logged("stale_result")
        print(  # noqa: T201
            f"seed {seed}; {dict(nemesis.faults)}; stale results refused: {refused}; "
            f"drained {drained_seconds:.1f} s after the last fault",
            flush=True,
        )
        if not report.valid:
            stack.show_logs()
        return report


def main() -> int:
    """The command; its exit code is 1 when the run is not valid."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long faults go on (10)")
    parser.add_argument("--seed", type=int, default=None, help="of the dice; a random one is printed")
    parser.add_argument("--real-leases", action="store_true", help="as they are by default, not shortened")
    parser.add_argument("--folder", type=Path, default=None, help="keeps data and logs")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(2**32) if options.seed is None else options.seed
    leases = {} if options.real_leases else FAST_LEASES
    if options.folder is not None:
        return 0 if run(options.folder, options.minutes * 60, seed, leases).valid else 1
    with tempfile.TemporaryDirectory(prefix="goqueue-chaos-") as folder:
        return 0 if run(Path(folder), options.minutes * 60, seed, leases).valid else 1


if __name__ == "__main__":
    sys.exit(main())
