"""Judges what time, order and flow promise: limits, rates, order, dependencies, unique keys, expiry, cancels.

What one row or two of the record can break is a statement that finds them; what a limit says is compared with
the intervals of the attempts, and with what the limit may have been at that time.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.support.jobs.flow_jobs import FIFO_QUEUE

#: A changed limit holds within a second.
CHANGE_SECONDS = 1.5

#: The rows of a query.
Rows = Callable[[str], Sequence[Any]]

#: How often a job was let go by those that it waited for. Made before a run.
WITNESS = """
    CREATE TABLE releases (job_id bigint);
    CREATE FUNCTION note_release() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN INSERT INTO releases VALUES (NEW.id); RETURN NULL; END $$;
    CREATE TRIGGER note_release AFTER UPDATE ON jobs FOR EACH ROW
        WHEN (OLD.status = 'blocked' AND NEW.status <> 'blocked') EXECUTE FUNCTION note_release();
"""

#: What must have no row when a run is over. Each first column is the id of what is wrong.
NEVER = {
    "a job is let in or to be stopped, and has no end": """
        SELECT id FROM jobs WHERE admitted OR (cancel_requested_at IS NOT NULL AND finished_at IS NULL)""",
    "a child started before a parent ended": """
        SELECT job_id FROM dependencies JOIN jobs AS parent ON parent.id = parent_id
        JOIN attempts USING (job_id)
        WHERE attempts.started_at < parent.finished_at OR parent.finished_at IS NULL""",
    "a child ran although a parent did not complete": """
        SELECT job_id FROM dependencies JOIN attempts USING (job_id)
        WHERE on_parent_failure <> 'run' AND parent_status IS DISTINCT FROM 'completed'""",
    "a child was ended for its parents, which completed": """
        SELECT id FROM jobs WHERE reason = 'parent_failed' AND NOT EXISTS (
            SELECT FROM dependencies WHERE job_id = jobs.id AND parent_status <> 'completed')""",
    "an edge does not say how its parent ended": """
        SELECT job_id FROM dependencies JOIN jobs AS parent ON parent.id = parent_id
        WHERE parent.finished_at IS NOT NULL AND parent_status IS DISTINCT FROM parent.status""",
    "a child was released twice": "SELECT job_id FROM releases GROUP BY job_id HAVING count(*) > 1",
    "an attempt started after its job had expired": """
        SELECT id FROM jobs JOIN attempts ON job_id = id
        WHERE attempts.started_at >= LEAST(expires_at, deadline_at)""",
    "an attempt started long after a cancel": """
        SELECT id FROM jobs JOIN attempts ON job_id = id
        WHERE attempts.started_at > cancel_requested_at + interval '5 seconds'""",
    "progress of no attempt": """
        SELECT said.job_id FROM attempt_progress AS said
        LEFT JOIN attempts USING (job_id, fence) WHERE attempts.fence IS NULL""",
    "a line of no attempt": """
        SELECT said.job_id FROM attempt_logs AS said
        LEFT JOIN attempts USING (job_id, fence) WHERE attempts.fence IS NULL""",
    "a tick without its job, or of two jobs": """
        SELECT coalesce(job_id, 0) FROM schedule_ticks LEFT JOIN jobs ON id = job_id
        WHERE outcome = 'fired' GROUP BY job_id HAVING count(*) <> 1 OR count(id) <> 1""",
    "a job of a schedule without a tick": """
        SELECT id FROM jobs WHERE starts_with(payload->>'token', 'schedule')
        AND NOT EXISTS (SELECT FROM schedule_ticks WHERE job_id = jobs.id)""",
    "a nominal time was passed over": """
        SELECT schedule_id FROM (
            SELECT schedule_id, nominal_at - lag(nominal_at) OVER (
                PARTITION BY schedule_id ORDER BY nominal_at) AS distance
            FROM schedule_ticks WHERE kind = 'scheduled') AS tick
        WHERE distance <> interval '1 minute'""",
    "a unique key is kept for a job that is not there": """
        SELECT job_id FROM unique_keys LEFT JOIN jobs ON id = job_id WHERE id IS NULL""",
    "a job of a key started before an older one ended": f"""
        SELECT later.id FROM jobs AS later JOIN attempts ON job_id = later.id
        JOIN jobs AS older USING (queue, concurrency_key)
        WHERE queue = '{FIFO_QUEUE}' AND older.id < later.id AND attempts.started_at < older.finished_at""",
}

#: Sampled while a run goes on: a statement sees one moment.
TWINS = """
    SELECT unique_key, array_agg(id ORDER BY id)::text FROM jobs
    WHERE unique_key IS NOT NULL AND status IN ('queued','blocked','running')
    GROUP BY unique_key HAVING count(*) > 1
"""

INTERVALS = """
    SELECT jobs.id, queue, coalesce(concurrency_key, ''), rate_cost,
           extract(epoch FROM attempts.started_at)::float, extract(epoch FROM attempts.finished_at)::float
    FROM attempts JOIN jobs ON jobs.id = job_id ORDER BY attempts.started_at
"""


@dataclass(frozen=True, slots=True)
class Interval:
    """An attempt, and what it counted."""

    job_id: int
    queue: str
    key: str
    cost: int
    started_at: float
    finished_at: float


@dataclass(slots=True)
class Timeline:
    """The values that a limit may have had, and when; at first there is none."""

    spans: list[tuple[float, float, float]] = field(default_factory=lambda: [(math.inf, 0.0, math.inf)])

    def change(self, value: float | None, began_at: float, ended_at: float | None) -> None:
        """Note a change between these times; `ended_at` None: nobody knows whether it was made."""
        if ended_at is not None:
            self.spans = [(before, since, min(until, ended_at)) for before, since, until in self.spans]
        self.spans.append((math.inf if value is None else value, began_at, math.inf))

    def most(self, since: float, until: float) -> float:
        """The most that it may have been in this time."""
        return max(value for value, begin, end in self.spans if begin <= until and end >= since)


@dataclass(slots=True)
class FlowHistory:
    """The knowledge of a run's load that the record does not have.

    Attributes:
        key_limits, rates: of the queues whose limits were changed.
        rate_seconds: the period of every rate.
        wrong: what should not have been answered or seen.
    """

    key_limits: dict[str, Timeline] = field(default_factory=lambda: defaultdict(Timeline))
    rates: dict[str, Timeline] = field(default_factory=lambda: defaultdict(Timeline))
    rate_seconds: float = 1.0
    wrong: list[str] = field(default_factory=list)


def check_flow(history: FlowHistory, rows: Rows) -> list[str]:
    """Return what is wrong with a run that is over."""
    intervals = [Interval(*row) for row in rows(INTERVALS)]
    return [
        *history.wrong,
        *_broken(rows),
        *_over_key_limit(history, intervals),
        *_over_rate(history, intervals),
    ]


def _broken(rows: Rows) -> Iterator[str]:
    for text, sql in NEVER.items():
        found = sorted({row[0] for row in rows(sql)})
        if found:
            yield f"{text}: {len(found)} of them, {found[:5]}"


def _over_key_limit(history: FlowHistory, intervals: Sequence[Interval]) -> Iterator[str]:
    """A start may not be one more than the limit; those that ran before the limit was lowered may go on."""
    running: dict[tuple[str, str], list[Interval]] = defaultdict(list)
    for one in intervals:
        if one.queue not in history.key_limits or not one.key:
            continue
        others = [other for other in running[one.queue, one.key] if other.finished_at > one.started_at]
        running[one.queue, one.key] = [*others, one]
        limit = history.key_limits[one.queue].most(one.started_at - CHANGE_SECONDS, one.started_at)
        if len(others) + 1 > limit:
            ids = [other.job_id for other in others]
            yield f"job {one.job_id} of {one.key} started beside {ids}; the limit was {limit:g}"


def _over_rate(history: FlowHistory, intervals: Sequence[Interval]) -> Iterator[str]:
    for queue, rate in history.rates.items():
        window: list[Interval] = []
        for one in (interval for interval in intervals if interval.queue == queue):
            begin = one.started_at - history.rate_seconds
            # The times are floats of microseconds.
            window = [*(other for other in window if other.started_at > begin + 1e-5), one]
            limit = rate.most(begin - CHANGE_SECONDS, one.started_at)
            if (spent := sum(other.cost for other in window)) > limit:
                yield f"job {one.job_id} of {queue} started at a rate of {spent}; the limit was {limit:g}"
