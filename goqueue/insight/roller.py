"""The roller: counts what ended into steps of time, which is what the pages of the dashboard read."""

from __future__ import annotations

from datetime import datetime

from goqueue.db.database import Connection
from goqueue.db.statements import current_time
from goqueue.insight import rollup_count_rows as rollup_counts
from goqueue.insight.rollup_steps import HOURS, MINUTES, STEPS, StepLength, begin_of, next_piece
from goqueue.scheduler.service import Counts, Service

#: The most rows that one statement deletes.
BATCH = 1000


class Roller(Service):
    """Counts each step once it has settled, in the transaction that notes how far the counting has come.

    So one that is killed has counted a step wholly or not at all, and after a pause the next one goes on, a
    bounded piece at a time.
    """

    name = "roller"

    def run_once(self) -> Counts:
        """Count one span of each length of step; delete old rows when none is behind."""
        behind = [self._count_piece(length) for length in STEPS]
        counts = {"behind": sum(behind), "deleted": 0}
        if not counts["behind"]:
            with self._database.autocommit() as connection:
                counts["deleted"] = sum(
                    rollup_counts.delete_older(connection, length, limit=BATCH) for length in STEPS
                )
        return counts

    def pause(self, counts: Counts) -> None:
        """Go on at once while it is behind; else wait."""
        if not counts["behind"] and counts["deleted"] < BATCH:
            self._pause(self._settings.rollup_interval_seconds)

    def _count_piece(self, length: StepLength) -> bool:
        """Count one piece; whether more is due after it."""
        with self._database.transaction() as connection:
            up_to = rollup_counts.lock_progress(connection, length)
            if length is HOURS:
                return _add_up(connection, up_to)
            now = current_time(connection)
            something_at = rollup_counts.next_end(connection, begin_of(length, up_to=up_to, now=now))
            piece = next_piece(length, up_to=up_to, now=now, something_at=something_at)
            if piece is None:
                return False
            counted = rollup_counts.count(connection, length, piece.since, piece.until)
            rollup_counts.write(connection, length, counted, piece.until)
            return not piece.is_last


def _add_up(connection: Connection, up_to: datetime | None) -> bool:
    """Add minutes up to an hour; whether more hours are whole after it."""
    now = rollup_counts.lock_progress(connection, MINUTES)
    if now is None:
        return False
    something_at = rollup_counts.next_count(connection, MINUTES, begin_of(HOURS, up_to=up_to, now=now))
    piece = next_piece(HOURS, up_to=up_to, now=now, something_at=something_at)
    if piece is None:
        return False
    counted = rollup_counts.add_up(connection, MINUTES, piece.since, piece.until)
    rollup_counts.write(connection, HOURS, counted, piece.until)
    return not piece.is_last
