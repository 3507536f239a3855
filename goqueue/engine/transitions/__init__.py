"""Every change of a job's state, a module each.

A statement names the states that it leaves and, where a holder acts, the fence that it holds.

By workers: `claim`, `record`, `give_back`, `rescue`. By clients: `cancel`, `retry`, `set_status`. By the
clock: `release`, `expire`, `force`, `drop`, `set_aside`. Each function that ends jobs settles in its own
transaction what waits for them (`release.settle`). What `begin` notes changes no state.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from goqueue.jobs import CLIENT_TRANSITIONS, JobStatus

__all__ = ["TRANSITIONS", "Maker", "Transition"]


class Maker(enum.StrEnum):
    """The party that makes a transition.

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
        name: of the function that runs the statement, and of the module in which it stands; others of this
            package may call it.
        leaves: the states that the statement leaves; in any other one it changes nothing.
        leads_to: the states that a job may come to, from each of those that are left.
        made_by: on whose account it happens. What ends a job also releases the jobs that wait for it.
        given: what names the target in the statement where that does not name all of them itself: a
            parameter, or a column of an outcome.
    """

    name: str
    leaves: frozenset[JobStatus]
    leads_to: frozenset[JobStatus]
    made_by: frozenset[Maker]
    given: str | None = None


def _states(*names: str) -> frozenset[JobStatus]:
    return frozenset(map(JobStatus, names))


_WORKER, _CLIENT, _CLOCK = (frozenset({maker}) for maker in Maker)

#: Every transition of a job that exists; its first state is given by the insert. Each row promises that its
#: function makes these changes of state and no others, and the table, that no other code makes any. A job
#: for which the statement returns no row was in none of these states, or somebody else has it: nothing was
#: changed. `tests/unit/test_transitions.py` compares the rows with the statements, and with the chart in
#: docs/architecture.md. A function has several rows where what it may lead to depends on what it leaves.
TRANSITIONS: tuple[Transition, ...] = (
    Transition("claim", _states("queued"), _states("running"), _WORKER),
    Transition("claim_ranges", _states("queued"), _states("running"), _WORKER),
    Transition("claim_together", _states("queued"), _states("running"), _WORKER),
    Transition(
        "record",
        _states("running"),
        _states("completed", "failed", "cancelled", "queued"),
        _WORKER,
        given="o.status",
    ),
    Transition("give_back", _states("running"), _states("queued", "cancelled"), _WORKER),
    Transition("rescue", _states("running"), _states("queued", "failed", "cancelled"), _CLOCK),
    Transition("cancel", _states("queued", "blocked", "running"), _states("cancelled"), _CLIENT | _CLOCK),
    Transition("retry", _states("failed", "cancelled"), _states("queued"), _CLIENT),
    *(
        Transition("set_status", frozenset({status}), targets, _CLIENT, given="%(wanted)s")
        for status, targets in CLIENT_TRANSITIONS.items()
    ),
    Transition(
        "release",
        _states("blocked"),
        _states("queued", "failed", "cancelled"),
        _WORKER | _CLIENT | _CLOCK,
    ),
    Transition("expire", _states("queued", "blocked"), _states("expired"), _CLOCK),
    Transition("force", _states("running"), _states("cancelled"), _CLOCK),
    Transition("drop", _states("queued"), _states("cancelled"), _CLOCK),
    Transition("set_aside", _states("queued"), _states("failed"), _WORKER | _CLOCK),
)
