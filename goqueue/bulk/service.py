"""The bulk operator: does what was asked for over many jobs, step by step."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial

import structlog

from goqueue import failpoints
from goqueue.bulk import canary_rows as canary_store
from goqueue.bulk import operation_rows as bulk_store
from goqueue.bulk.actions import STEP_MAX, BulkAction, BulkState, allowance, due_after
from goqueue.bulk.operation_rows import BulkOperation
from goqueue.config.settings import Settings
from goqueue.db.database import Connection, Database
from goqueue.db.statements import current_time
from goqueue.engine import cleaning_rows as cleaning
from goqueue.engine import job_rows as job_store
from goqueue.engine.listing import listing_rows as job_lists
from goqueue.engine.transitions.cancel import cancel
from goqueue.engine.transitions.retry import retry
from goqueue.errors import DatabaseRefusedError, DatabaseUnavailableError
from goqueue.observability import metrics
from goqueue.scheduler.service import Counts, Pause, Service

log = structlog.get_logger(__name__)

#: Tells the time by which a rate is kept.
Clock = Callable[[Connection], datetime]


class BulkOperator(Service):
    """Takes every unfinished operation one step further.

    A step is one transaction: the position moves together with the jobs. What it retries is pushed by the
    dispatcher, as any row that is ready.

    Args:
        clock: PostgreSQL's, unless a test has another.
    """

    name = "bulk_operator"

    def __init__(
        self, settings: Settings, database: Database, pause: Pause, *, clock: Clock = current_time
    ) -> None:
        super().__init__(settings, database, pause)
        self._clock = clock

    def run_once(self) -> Counts:
        """Take one step of each operation."""
        with self._database.autocommit() as connection:
            operation_ids = bulk_store.unfinished(connection)
        self.parts.keep([str(operation_id) for operation_id in operation_ids])
        done = sum(
            self.parts.run(str(operation_id), partial(self._step, operation_id), 0)
            for operation_id in operation_ids
        )
        return {"operations": len(operation_ids), "done": done}

    def pause(self, counts: Counts) -> None:
        """Go on at once while there is something to do; else wait."""
        if not counts["done"]:
            self._pause(self._settings.bulk_interval_seconds)

    def _step(self, operation_id: int) -> int:
        """One step of an operation; how many jobs it took."""
        try:
            with self._database.transaction() as connection:
                operation = bulk_store.lock(connection, operation_id)
                if operation is None:
                    return 0
                done = self._go_on(connection, operation)
                failpoints.hit("in_bulk_step")
        except DatabaseUnavailableError as error:
            # One that waits for a lock must not hold up the others.
            if not error.may_be_the_statement:
                raise
            log.warning("bulk_step_postponed", operation_id=operation_id, error=str(error))
            return 0
        except DatabaseRefusedError as error:
            log.exception("bulk_operation_refused", operation_id=operation_id)
            with self._database.autocommit() as connection:
                _finish(connection, operation_id, BulkState.STOPPED, f"PostgreSQL refused a step: {error}")
            return 0
        failpoints.hit("after_bulk_step")
        return done

    def _go_on(self, connection: Connection, operation: BulkOperation) -> int:
        if operation.state is BulkState.CANARY:
            canaries = canary_store.count(connection, operation.id)
            missing = (operation.canary or 0) - canaries.total
            if missing <= 0 or operation.after_id >= operation.up_to_id:
                _judge(connection, operation, canaries)
                return 0
            return self._take(connection, operation, missing)
        if operation.after_id >= operation.up_to_id:
            _finish(connection, operation.id, BulkState.COMPLETED)
            return 0
        return self._take(connection, operation, STEP_MAX)

    def _take(self, connection: Connection, operation: BulkOperation, most: int) -> int:
        """Do as many jobs as the rate allows, and move the position behind them."""
        now = self._clock(connection)
        limit = min(most, allowance(operation.rate, operation.next_at, now))
        if limit <= 0:
            return 0
        ids, up_to = job_lists.chunk(
            connection,
            operation.filter,
            after_id=operation.after_id,
            up_to_id=operation.up_to_id,
            limit=limit,
        )
        changed = self._change(connection, operation, ids)
        if operation.state is BulkState.CANARY:
            canary_store.add(connection, operation.id, changed)
        bulk_store.advance(
            connection,
            operation.id,
            after_id=up_to,
            done=len(ids),
            changed=len(changed),
            next_at=due_after(operation.rate, operation.next_at, now, len(ids)),
        )
        metrics.BULK_JOBS_CHANGED.labels(operation.action.value).inc(len(changed))
        return len(ids)

    def _change(self, connection: Connection, operation: BulkOperation, ids: list[int]) -> list[int]:
        """Do the action; the ids of the jobs that were in a state for it."""
        match operation.action:
            case BulkAction.RETRY:
                retried = retry(connection, ids)
                return [row[0] for row in retried]
            case BulkAction.CANCEL:
                cancelled = cancel(connection, ids)
                return [*cancelled.ended, *cancelled.requested]
            case BulkAction.DELETE:
                return cleaning.delete_final(connection, ids)
            case BulkAction.SET_PRIORITY:
                priority = operation.arguments["priority"]
                return job_store.set_priority(connection, ids, priority)


def _judge(connection: Connection, operation: BulkOperation, canaries: canary_store.CanaryCounts) -> None:
    """Go on when every canary completed; wait while one is not final."""
    if canaries.unfinished:
        return
    if canaries.failed:
        reason = f"{canaries.failed} of the first {canaries.total} jobs did not complete"
        _finish(connection, operation.id, BulkState.STOPPED, reason)
    elif operation.after_id >= operation.up_to_id:
        _finish(connection, operation.id, BulkState.COMPLETED)
    else:
        bulk_store.run_on(connection, operation.id)


def _finish(connection: Connection, operation_id: int, state: BulkState, reason: str | None = None) -> None:
    operation = bulk_store.finish(connection, operation_id, state, reason=reason)
    if operation is not None:
        metrics.BULK_OPERATIONS.labels(operation.action.value, state.value).inc()
        log.info(
            "bulk_operation_ended",
            operation_id=operation_id,
            action=operation.action.value,
            state=state.value,
            reason=reason,
            done=operation.done,
            changed=operation.changed,
        )
