"""The keeper of partitions: has one ready before it is needed, and drops those that are old."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

import structlog

from goqueue.config.settings import Settings
from goqueue.db.database import Connection, Database
from goqueue.engine.partitions import keep_rows as keeping
from goqueue.engine.partitions import layout_rows as layouts
from goqueue.engine.partitions import rules
from goqueue.engine.partitions import switch_rows as switching
from goqueue.engine.partitions.keep_rows import Ages
from goqueue.engine.partitions.layout_rows import Layout, Partition
from goqueue.engine.partitions.switch import size_for
from goqueue.engine.partitions.table_rows import drop_left_over, is_alone, patiently
from goqueue.errors import DatabaseUnavailableError
from goqueue.jobs import JobStatus
from goqueue.observability import metrics

__all__ = ["PartitionKeeper"]

log = structlog.get_logger(__name__)

R = TypeVar("R")

#: Putting together what is kept of a partition, and letting go of its files, may take so long.
STEP_SECONDS = 300.0

#: The most jobs that are kept of a partition that is replaced: they are locked, and copied, in one
#: transaction.
KEPT_MAX = 200_000

#: Where there are more, they are counted again after this.
CROWDED_SECONDS = 3600.0

#: So many batches of what other tables have of jobs that went are forgotten in a round.
ORPHAN_BATCHES = 50


class _TakenBackError(Exception):
    """A step found that it must not be done, and is undone."""


class PartitionKeeper:
    """Has a partition ready for jobs to come, and replaces old ones by what has to be kept of them.

    Args:
        settings: say how large partitions are.
        database: one whose transactions are this process's alone.
        ages: how long final jobs of each status are kept. Those that are kept as long as completed ones go
            with their partition; the cleaner deletes the others by rows.
    """

    def __init__(self, settings: Settings, database: Database, ages: Ages) -> None:
        self._settings = settings
        self._database = database
        self._ages = dict(ages)
        completed = settings.completed_retention_seconds
        self._ages_of_whole = {status: age for status, age in ages.items() if age == completed}

        #: Partitions of which too many jobs had to stay, and when they were counted (monotonic).
        self._crowded: dict[str, float] = {}
        #: Whoever led before may have left some.
        self._has_orphans = True

    @property
    def statuses_of_whole(self) -> Collection[JobStatus]:
        """The statuses whose jobs go with their partition."""
        return self._ages_of_whole.keys()

    def run_once(self) -> int | None:
        """Do what is due.

        Returns:
            Below which id final jobs of every status are deleted by rows; None: there are no partitions.
        """
        with self._database.autocommit() as connection:
            layout = layouts.read(connection)
            metrics.PARTITIONS.set(0 if layout is None else len(layout.partitions))
            if layout is None and not switching.has_bound(connection):
                return None
        if layout is None:
            self._try(self._drop_stray_bound)
            return None
        self._tell(layout)
        self._have_one_ahead(layout)
        below = self._replace_old(layout)
        self._try(drop_left_over)
        if self._has_orphans:
            self._forget_orphans()
        return below

    def _tell(self, layout: Layout) -> None:
        metrics.PARTITION_IDS_AHEAD.set(layout.ids_ahead)
        if not layout.ids_ahead:
            log.error("partition_missing", jobs_from=layout.open.lower, last_id=layout.last_id)

    def _drop_stray_bound(self, connection: Connection) -> None:
        """Take back what a killed switch has left: a bound would refuse jobs, once they have come so far."""
        if not switching.is_switching(connection):
            switching.drop_bound(connection)
            log.warning("partition_bound_left_over")

    def _have_one_ahead(self, layout: Layout) -> None:
        with self._database.autocommit() as connection:
            size = size_for(connection, self._settings, layout.last_id)
        last = layout.open
        if not rules.wants_another(layout.ids_ahead, size):
            return
        assert last.lower is not None
        # Late, the partition has rows: its end lies where none comes for a while.
        upper = max(last.lower, layout.last_id) + size
        stored_like = layout.partitions[0].suffix

        def add(connection: Connection) -> None:
            keeping.add_ahead(connection, last, upper, stored_like=stored_like)
            log.info("partition_made", jobs_from=last.lower, below=upper)

        self._try(add)

    def _replace_old(self, layout: Layout) -> int:
        """Replace the oldest partition whose jobs may go; below which id jobs are deleted by rows."""
        below = layout.cleaned_below
        for place, one in enumerate(layout.partitions):
            if one.is_kept:
                continue
            if one.upper is None or one.upper > layout.last_id:
                return below
            if not self._is_crowded(one):
                kept = self._rows_to_keep(one)
                if kept is None:
                    return below
                if kept <= KEPT_MAX:
                    self._replace(layout, place)
                    return below
                self._crowded[one.suffix] = time.monotonic()
                log.warning("partition_not_replaced", below=one.upper, jobs_to_keep=kept)
            # Nobody copies so many: its final jobs go by rows, until few are left.
            below = max(below, one.upper)
        return below

    def _is_crowded(self, partition: Partition) -> bool:
        """Say whether too many jobs of a partition had to stay a while ago: counting them reads all of it."""
        counted_at = self._crowded.get(partition.suffix)
        return counted_at is not None and time.monotonic() < counted_at + CROWDED_SECONDS

    def _rows_to_keep(self, partition: Partition) -> int | None:
        """Count the jobs that have to stay of a partition; None: it is too young to be replaced."""

        def count(connection: Connection) -> int | None:
            if keeping.is_young(connection, partition, self._settings.completed_retention_seconds):
                return None
            return keeping.rows_to_keep(connection, partition, self._ages)

        return self._try(count)

    def _replace(self, layout: Layout, place: int) -> None:
        if not self._try(keeping.wait_for_writers):
            return
        replaced = self._try(lambda connection: self._put_together(connection, layout, place))
        if replaced is not None:
            self._has_orphans = True
            partitions, kept = replaced
            log.info(
                "partition_replaced", below=partitions[-1].upper, partitions=len(partitions), jobs_kept=kept
            )

    def _put_together(
        self, connection: Connection, layout: Layout, place: int
    ) -> tuple[Sequence[Partition], int]:
        """Replace a partition, and the kept ones before it that are not much larger, by one."""
        old = [layout.partitions[place]]
        kept = keeping.lock_rows_to_keep(connection, old[0], self._ages)
        before = [one for one in layout.partitions[:place][::-1] if one.is_kept]
        for one in before[: rules.joined(len(kept), [one.rows for one in before])]:
            kept += keeping.lock_rows_to_keep(connection, one, self._ages)
            old.insert(0, one)
        suffix = f"kept_{old[0].lower or 0}_{old[-1].upper}"
        if not keeping.replace(connection, old, kept, suffix):
            raise _TakenBackError
        return old, len(kept)

    def _forget_orphans(self) -> None:
        """Forget what other tables have of jobs that went with their partition, as long as there is some."""
        with self._database.autocommit() as connection:
            layout = layouts.read(connection)
        kept = [one.upper for one in layout.partitions if one.is_kept and one.upper] if layout else []
        if not kept:
            return
        for _ in range(ORPHAN_BATCHES):
            forgotten = self._try(lambda connection: keeping.forget_orphans(connection, max(kept)))
            self._has_orphans = forgotten != 0
            if not forgotten:
                return

    def _try(self, run: Callable[[Connection], R]) -> R | None:
        """Do a step in a transaction, unless somebody else is at it; another round does what failed."""
        try:
            with self._database.transaction() as connection, patiently(connection, STEP_SECONDS):
                return run(connection) if is_alone(connection) else None
        except _TakenBackError:
            return None
        except DatabaseUnavailableError as error:
            if not error.may_be_the_statement:
                raise
            log.info("partitions_wait", error=str(error))
            return None
