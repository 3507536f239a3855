"""The parts of a queue's demand that only workers with certain labels can meet. Pure Python.

A job that requires labels needs a worker that has them, and is of no use to any other. How large each part is
is told by the jobs that were looked at: the next ones, the newest ones and those that run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from goqueue.insight.autoscale import Demand, LabelNeed, Objective, autoscale

__all__ = ["GROUPS_SHOWN", "LabelledJobs", "LabelledWorkers", "of_worker_group", "unmet_needs"]

#: So many sets of labels are told, those with the largest need.
GROUPS_SHOWN = 20


class LabelledJobs(NamedTuple):
    """Jobs that require the same labels: how many of those that were looked at.

    Attributes:
        requires: the labels, as `name=value`; empty: none.
        running_seconds: for how long those that run have, all together.
    """

    requires: frozenset[str]
    backlog: int
    arrivals: int
    running: int
    running_seconds: float


class LabelledWorkers(NamedTuple):
    """Live workers of the queue that have the same labels.

    Attributes:
        slots: jobs of the queue that they run at once.
    """

    labels: frozenset[str]
    workers: int
    threads: int
    slots: int


def unmet_needs(
    demand: Demand,
    objective: Objective,
    jobs: Sequence[LabelledJobs],
    workers: Sequence[LabelledWorkers],
    *,
    assumed_run_seconds: float,
) -> tuple[LabelNeed, ...]:
    """Work out what each set of labels that jobs require needs, the largest lack first."""

    def need_of(requires: frozenset[str]) -> LabelNeed:
        part = _part(
            demand,
            jobs,
            workers,
            is_wanted=lambda group: group == requires,
            serves=lambda labels: requires <= labels,
        )
        return LabelNeed(
            tuple(sorted(requires)), autoscale(part, objective, assumed_run_seconds=assumed_run_seconds)
        )

    needs = [need_of(requires) for requires in {group.requires for group in jobs} if requires]
    needs.sort(key=lambda need: (-need.missing, -need.answer.threads_needed, need.requires))
    return tuple(needs[:GROUPS_SHOWN])


def of_worker_group(
    demand: Demand,
    jobs: Sequence[LabelledJobs],
    workers: Sequence[LabelledWorkers],
    labels: frozenset[str],
) -> Demand:
    """Return the part of a demand that workers with these labels are there for.

    With labels these are the jobs that require some, and none but them; without, those that require none.
    """
    if not labels:
        return _part(demand, jobs, workers, is_wanted=lambda group: not group, serves=lambda has: not has)
    return _part(
        demand,
        jobs,
        workers,
        is_wanted=lambda group: bool(group) and group <= labels,
        serves=lambda has: labels <= has,
    )


def _part(
    demand: Demand,
    jobs: Sequence[LabelledJobs],
    workers: Sequence[LabelledWorkers],
    *,
    is_wanted: Callable[[frozenset[str]], bool],
    serves: Callable[[frozenset[str]], bool],
) -> Demand:
    """The part of a demand that is of the wanted jobs, with the workers that can run them."""
    wanted = [group for group in jobs if is_wanted(group.requires)]
    serving = [group for group in workers if serves(group.labels)]

    def share(count: Callable[[LabelledJobs], int], whole: int) -> int:
        looked_at = sum(map(count, jobs))
        return math.ceil(whole * sum(map(count, wanted)) / looked_at) if looked_at else 0

    return replace(
        demand,
        backlog=share(lambda group: group.backlog, demand.backlog),
        arrivals=share(lambda group: group.arrivals, demand.arrivals),
        due=share(lambda group: group.arrivals, demand.due),
        running=sum(group.running for group in wanted),
        running_seconds=sum(group.running_seconds for group in wanted),
        workers=sum(group.workers for group in serving),
        threads=sum(group.threads for group in serving),
        slots=sum(group.slots for group in serving),
    )
