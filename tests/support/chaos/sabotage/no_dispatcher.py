"""SABOTAGE, for mutation tests only: in the process that loads this, nothing is pushed again."""

from __future__ import annotations

from goqueue.dispatch.dispatcher import Dispatcher
from goqueue.scheduler.service import Counts


def _do_nothing(_self: Dispatcher) -> Counts:
    return {"due": 0, "pushed": 0, "again": 0, "suspects": 0, "forgotten": 0}


Dispatcher.run_once = _do_nothing  # type: ignore[method-assign, assignment]
