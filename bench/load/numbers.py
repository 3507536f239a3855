"""Every number of a load beside what it must be: what was told, what is recorded, what was done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bench.load.mixture import Kind
from bench.load.record import JobRow


class Number(NamedTuple):
    """One number, and what it must be."""

    what: str
    counted: int
    expected: int

    @property
    def is_right(self) -> bool:
        """Whether it is what it must be."""
        return self.counted == self.expected


@dataclass(frozen=True, slots=True)
class Effects:
    """What the handlers and their counterparts have counted.

    Attributes:
        runs: runs of the handlers that count.
        mails, charges, webhooks: how often each happened.
        failed_processes: processes of the stack that did not end well.
    """

    runs: int
    mails: Counter[str]
    charges: Counter[str]
    webhooks: Counter[str]
    failed_processes: int = 0


def numbers_of(
    total: int,
    told: Mapping[int, Kind],
    told_twice: Sequence[int],
    rows: Sequence[JobRow],
    effects: Effects,
) -> list[Number]:
    """All numbers of a load of so many jobs."""
    return [*_of_ids(total, told, told_twice, rows), *_of_rows(told, rows), *_of_effects(told, effects)]


def _of_ids(
    total: int, told: Mapping[int, Kind], told_twice: Sequence[int], rows: Sequence[JobRow]
) -> list[Number]:
    kept = Counter(row.id for row in rows)
    return [
        Number("ids that clients were told", len(told), total),
        Number("ids that were told twice", len(told_twice), 0),
        Number("rows in PostgreSQL", len(rows), total),
        Number("lost: told, and no row", len(told.keys() - kept.keys()), 0),
        Number("invented: a row that nobody was told of", len(kept.keys() - told.keys()), 0),
        Number("rows of one id more than once", kept.total() - len(kept), 0),
    ]


def _of_rows(told: Mapping[int, Kind], rows: Sequence[JobRow]) -> list[Number]:
    statuses = Counter(row.status for row in rows)
    expected = Counter(kind.status for kind in told.values())
    known = [(told[row.id], row) for row in rows if row.id in told]
    return [
        Number("completed", statuses["completed"], expected["completed"]),
        Number("failed for good", statuses["failed"], expected["failed"]),
        Number(
            "ended otherwise than their kind does", sum(kind.status != row.status for kind, row in known), 0
        ),
        Number("took more or fewer attempts", sum(kind.runs != row.attempts for kind, row in known), 0),
        Number(
            "attempts recorded", sum(row.recorded for row in rows), sum(kind.runs for kind in told.values())
        ),
        Number("completions recorded", sum(row.completed for row in rows), expected["completed"]),
        Number("completed more than once", sum(row.completed > 1 for row in rows), 0),
    ]


def _of_effects(told: Mapping[int, Kind], effects: Effects) -> list[Number]:
    kinds = Counter(kind.type for kind in told.values())
    numbers = [Number("handler runs", effects.runs, sum(kind.runs for kind in told.values() if kind.counts))]
    for what, counted, job_type in (
        ("mails received", effects.mails, "send_email"),
        ("payments charged", effects.charges, "process_payment"),
        ("webhooks accepted", effects.webhooks, "send_webhook"),
    ):
        numbers += [
            Number(what, len(counted), kinds[job_type]),
            Number(f"{what} twice", counted.total() - len(counted), 0),
        ]
    return [*numbers, Number("processes that did not end well", effects.failed_processes, 0)]
