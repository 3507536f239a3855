"""The breakers: open the circuit breakers of job types that fail, let probes in, close them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import structlog

from goqueue.audit import audit_rows as audit
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.limits import breaker_rows as breaker_store
from goqueue.limits.breaker_rows import BreakerRow
from goqueue.limits.breaker_rules import change_of
from goqueue.limits.settings import BreakerState
from goqueue.observability import metrics
from goqueue.scheduler.service import Counts, Pause, Service

log = structlog.get_logger(__name__)

#: The most rows of outdated counts that one round deletes.
BATCH = 1000

#: What `breaker_state` shows.
GAUGE = {BreakerState.CLOSED: 0, BreakerState.OPEN: 1, BreakerState.HALF_OPEN: 2}


class Breakers(Service):
    """Moves each breaker as what workers have counted says."""

    name = "breakers"

    def __init__(
        self, settings: Settings, database: Database, pause: Pause, wake: Callable[[], object] = bool
    ) -> None:
        super().__init__(settings, database, pause, wake)
        self._shown: set[str] = set()

    def run_once(self) -> Counts:
        """Look at every breaker once."""
        counts = dict.fromkeys(("opened", "probing", "closed", "forgotten"), 0)
        with self._database.autocommit() as connection:
            rows = breaker_store.tallies(connection)
        for row in rows:
            state = self.parts.run(row.name, partial(self._decide, row), row.state)
            if state is not row.state:
                counts[_COUNTED[state]] += 1
            metrics.BREAKER_STATE.labels(row.name).set(GAUGE[state])
        if rows or self._shown:
            with self._database.autocommit() as connection:
                counts["forgotten"] = breaker_store.delete_outcomes(connection, limit=BATCH)
        self._forget_removed({row.name for row in rows})
        return counts

    def pause(self, counts: Counts) -> None:  # noqa: ARG002  (each round is as long)
        """Wait for the next look."""
        self._pause(self._settings.flow_interval_seconds)

    def _decide(self, row: BreakerRow) -> BreakerState:
        """Move one breaker where it has to go; where it stands then."""
        change = change_of(row.breaker, row.state, row.tally)
        if change is None:
            return row.state
        with self._database.transaction() as connection:
            moved = breaker_store.move(connection, row, change)
            if moved:
                was = {"breaker_state": row.state.value}
                becomes = {"breaker_state": change.state.value}
                target = f"type {row.name}"
                audit.record(
                    connection, "type.breaker", target, before=was, after=becomes, reason=change.reason
                )
        if not moved:
            return row.state
        log.warning("breaker_moved", type=row.name, state=change.state.value, reason=change.reason)
        if change.state is BreakerState.OPEN:
            metrics.BREAKER_OPENED.labels(row.name).inc()
        else:
            self._wake()
        return change.state

    def _forget_removed(self, names: set[str]) -> None:
        """A type that has no breaker any more is not shown."""
        for name in self._shown - names:
            metrics.BREAKER_STATE.remove(name)
        self._shown = names


_COUNTED = {BreakerState.OPEN: "opened", BreakerState.HALF_OPEN: "probing", BreakerState.CLOSED: "closed"}
