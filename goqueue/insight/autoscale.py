"""The number of worker threads that a queue needs for its objective, from what was measured. Pure Python.

Jobs of async types run on event loops: for them read async slots where threads stand. The threads for what
arrives are Erlang's (`erlang.py`). Those for the backlog are what is needed to be rid of
it within the wait of the objective while arrivals go on. The larger number counts, and never fewer threads
than there are jobs that run.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

from goqueue.insight import erlang

__all__ = [
    "ASSUMED_RUN_SECONDS",
    "DEFAULT_SLO_WAIT_SECONDS",
    "RUN_SECONDS_MIN",
    "WINDOW_SECONDS",
    "Autoscale",
    "Demand",
    "LabelNeed",
    "LimitedBy",
    "Objective",
    "RunTimes",
    "autoscale",
]

#: The wait that is aimed at where a queue has no objective of its own.
DEFAULT_SLO_WAIT_SECONDS = 30.0

#: How far back, and ahead, arrivals are counted, where the question does not say.
WINDOW_SECONDS = 300.0
MAX_WINDOW_SECONDS = 3_600.0

#: The run of a job, where none has ended or runs, and the question does not say.
ASSUMED_RUN_SECONDS = 1.0
MAX_ASSUMED_RUN_SECONDS = 86_400.0

#: A thread starts no more than 500 jobs a second, however short they are: claiming and recording take time.
RUN_SECONDS_MIN = 0.002


class RunTimes(enum.StrEnum):
    """Where the mean run comes from.

    ended: from attempts that ended, and from what still runs.
    running: nothing has ended; what runs has run for so long already.
    assumed: nothing has ended and nothing runs.
    """

    ENDED = "ended"
    RUNNING = "running"
    ASSUMED = "assumed"


class LimitedBy(enum.StrEnum):
    """Why no more threads would help.

    paused: the queue starts nothing now (it is paused, or was told to slow down).
    concurrency: the queue runs no more jobs at once.
    """

    PAUSED = "paused"
    CONCURRENCY = "concurrency"


@dataclass(frozen=True, slots=True)
class Demand:
    """The measured demand of a queue: its backlog, its arrivals, its runs, and who works on them.

    Attributes:
        backlog: jobs that could start now; oldest_age_seconds: for how long the oldest of the next could.
        running: jobs that run; running_seconds: for how long, all together.
        arrivals: jobs that came and could start at once, in arrivals_seconds.
        due: jobs that wait for a time (a run-at, a retry) that comes within the next due_seconds.
        ended: attempts that ended, the newest ones; ended_seconds: how long they ran, all together.
        workers, threads: live worker processes that serve the queue, and their threads.
        slots: jobs of the queue that these run at once: on threads, on event loops, or both.
        process_slots: the same of the newest of its processes, also of one that is gone, where async types
            are declared for the queue; else None.
        closed: nothing of the queue starts now.
        concurrency: the most of its jobs that run at once; None is without limit.
    """

    backlog: int = 0
    oldest_age_seconds: float = 0.0
    running: int = 0
    running_seconds: float = 0.0
    arrivals: int = 0
    arrivals_seconds: float = WINDOW_SECONDS
    due: int = 0
    due_seconds: float = WINDOW_SECONDS
    ended: int = 0
    ended_seconds: float = 0.0
    workers: int = 0
    threads: int = 0
    slots: int = 0
    process_slots: int | None = None
    closed: bool = False
    concurrency: int | None = None

    @property
    def arrival_rate(self) -> float:
        """The number of jobs a second that want to start."""
        return self.arrivals / self.arrivals_seconds + self.due / self.due_seconds

    @property
    def run_times(self) -> RunTimes:
        """The source of the mean run."""
        if self.ended:
            return RunTimes.ENDED
        return RunTimes.RUNNING if self.running else RunTimes.ASSUMED

    def run_seconds(self, assumed: float) -> float:
        """Return the mean run of a job: all the time that threads were busy, by attempts that ended in it."""
        busy = self.ended_seconds + self.running_seconds
        found = {
            RunTimes.ENDED: busy / max(1, self.ended),
            RunTimes.RUNNING: max(assumed, busy / max(1, self.running)),
            RunTimes.ASSUMED: assumed,
        }
        return max(RUN_SECONDS_MIN, found[self.run_times])


@dataclass(frozen=True, slots=True)
class Objective:
    """The objective for waits: `part` (0 to 1) of the jobs wait no longer than `wait_seconds`.

    Attributes:
        is_default: the queue has none of its own.
    """

    wait_seconds: float
    part: float
    is_default: bool


@dataclass(frozen=True, slots=True)
class Autoscale:
    """The answer to how many threads a queue needs, with all that it follows from.

    Attributes:
        run_seconds: the mean run of a job.
        threads_for_arrivals: for what arrives, by Erlang C.
        threads_for_backlog: to be rid of the backlog within the wait of the objective, arrivals included.
        threads_needed: the larger of both, at least one for each running job, at most what helps.
        limited_by: why not more; None: nothing limits it.
        kept_now: the part of arrivals that is expected to keep the wait with the present slots, by
            Erlang C, without regard to the backlog; kept_then: with those that are needed.
        label_needs: what the jobs need that require labels, by these: the largest lack first.
    """

    demand: Demand
    objective: Objective
    run_seconds: float
    threads_for_arrivals: int
    threads_for_backlog: int
    threads_needed: int
    limited_by: LimitedBy | None
    kept_now: float
    kept_then: float
    label_needs: tuple[LabelNeed, ...] = ()


@dataclass(frozen=True, slots=True)
class LabelNeed:
    """The need of the jobs that require the same labels.

    Attributes:
        requires: the labels, as `name=value`, sorted.
        answer: what they need, by themselves, of workers that have all of these labels; the slots in its
            demand are those of these workers, who may have other jobs as well.
    """

    requires: tuple[str, ...]
    answer: Autoscale

    @property
    def missing(self) -> int:
        """The number of slots that workers with these labels have too few."""
        return max(0, self.answer.threads_needed - self.answer.demand.slots)


def autoscale(demand: Demand, objective: Objective, *, assumed_run_seconds: float) -> Autoscale:
    """Work out how many threads the queue needs for what arrives and for its backlog, within its limits."""
    run_seconds = demand.run_seconds(assumed_run_seconds)
    for_arrivals = erlang.servers_needed(
        arrivals=demand.arrival_rate,
        service=1 / run_seconds,
        seconds=objective.wait_seconds,
        objective=objective.part,
    )
    for_backlog = _for_backlog(demand, run_seconds, objective.wait_seconds)
    needed, limited_by = _limited(demand, max(for_arrivals, for_backlog))
    return Autoscale(
        demand=demand,
        objective=objective,
        run_seconds=run_seconds,
        threads_for_arrivals=for_arrivals,
        threads_for_backlog=for_backlog,
        threads_needed=needed,
        limited_by=limited_by,
        kept_now=_kept(demand, demand.slots, run_seconds, objective.wait_seconds),
        kept_then=_kept(demand, needed, run_seconds, objective.wait_seconds),
    )


def _for_backlog(demand: Demand, run_seconds: float, wait_seconds: float) -> int:
    """No more than one thread for each job of the backlog, beside those that arrivals keep busy."""
    if not demand.backlog:
        return 0
    catching_up = min(float(demand.backlog), demand.backlog * run_seconds / wait_seconds)
    return min(erlang.SERVERS_MAX, math.ceil(demand.arrival_rate * run_seconds + catching_up))


def _limited(demand: Demand, wanted: int) -> tuple[int, LimitedBy | None]:
    if demand.closed:
        return demand.running, LimitedBy.PAUSED
    wanted = max(wanted, demand.running)
    most = demand.concurrency
    if most is not None and wanted > most:
        return max(most, demand.running), LimitedBy.CONCURRENCY
    return wanted, None


def _kept(demand: Demand, threads: int, run_seconds: float, wait_seconds: float) -> float:
    if not demand.arrival_rate:
        return 1.0
    return 1 - erlang.wait_exceeds(
        threads, arrivals=demand.arrival_rate, service=1 / run_seconds, seconds=wait_seconds
    )
