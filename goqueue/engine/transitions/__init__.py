"""Every change of a job's state: statements that name the states they leave, and a holder's fence."""

from __future__ import annotations

import enum
from typing import NamedTuple

from goqueue.jobs import JobStatus

__all__ = ["TRANSITIONS", "Maker", "Transition"]


class Maker(enum.StrEnum):
    """Who makes a transition.

    worker: a worker process, of a job that it claims, holds or cannot read.
    client: somebody who asks for it, at once or by a bulk operation.
    clock: a round of a background role, which looks for what has come due.
    """

    WORKER = "worker"
    CLIENT = "client"
    CLOCK = "clock"


class Transition(NamedTuple):
    """One way in which a function of this package changes the state of jobs.

    Attributes:
        module: the module of this package in which the function stands.
        function: the function that runs the statement; others of this package may call it.
        leaves: the states that the statement leaves; in any other one it changes nothing.
        leads_to: the states that a job may come to, from each of those that are left.
        made_by: on whose account it happens. What ends a job also releases the jobs that wait for it.
        given: what names the target in the statement where that does not name all of them itself: a
            parameter, or a column of an outcome.
    """

    module: str
    function: str
    leaves: frozenset[JobStatus]
    leads_to: frozenset[JobStatus]
    made_by: frozenset[Maker]
    given: str | None = None


def _states(*names: str) -> frozenset[JobStatus]:
    return frozenset(map(JobStatus, names))


_WORKER, _CLIENT, _CLOCK = (frozenset({maker}) for maker in Maker)
_WANTED = "%(wanted)s"

#: Every transition of a job that exists; its first state is given by the insert. Each row promises that its
#: function makes these changes of state and no others, and the table, that no other code makes any. A job
#: for which the statement returns no row was in none of these states, or somebody else has it: nothing was
#: changed. `tests/unit/test_transitions.py` compares the rows with the statements, and with the chart in
#: docs/architecture.md. A function has several rows where what it may lead to depends on what it leaves.
TRANSITIONS: tuple[Transition, ...] = (
    Transition("attempts", "claim", _states("queued"), _states("running"), _WORKER),
    Transition(
        "attempts",
        "record",
        _states("running"),
        _states("completed", "failed", "cancelled", "queued"),
        _WORKER,
        given="o.status",
    ),
    Transition("attempts", "give_back", _states("running"), _states("queued", "cancelled"), _WORKER),
    Transition("attempts", "rescue", _states("running"), _states("queued", "failed", "cancelled"), _CLOCK),
    Transition("cancellation", "force", _states("running"), _states("cancelled"), _CLOCK),
    Transition(
        "dependencies",
        "release",
        _states("blocked"),
        _states("queued", "failed", "cancelled"),
        _WORKER | _CLIENT | _CLOCK,
    ),
    Transition("drop", "drop", _states("queued"), _states("cancelled"), _CLOCK),
    Transition("expiry", "expire", _states("queued", "blocked"), _states("expired"), _CLOCK),
    Transition(
        "jobs", "cancel", _states("queued", "blocked", "running"), _states("cancelled"), _CLIENT | _CLOCK
    ),
    Transition("jobs", "retry", _states("failed", "cancelled"), _states("queued"), _CLIENT),
    Transition(
        "jobs", "set_status", _states("queued"), _states("running", "cancelled", "expired"), _CLIENT, _WANTED
    ),
    Transition("jobs", "set_status", _states("blocked"), _states("cancelled"), _CLIENT, _WANTED),
    Transition(
        "jobs",
        "set_status",
        _states("running"),
        _states("queued", "completed", "failed", "cancelled"),
        _CLIENT,
        _WANTED,
    ),
    Transition("jobs", "set_status", _states("failed", "cancelled"), _states("queued"), _CLIENT, _WANTED),
    Transition("set_aside", "set_aside", _states("queued"), _states("failed"), _WORKER | _CLOCK),
)
