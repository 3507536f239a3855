"""SQL that many statements share: the order of jobs, and the places of those that have not ended.

An index serves a statement that repeats its condition word for word: `goqueue/db/tables/jobs.py` makes the
indexes of these texts.
"""

from __future__ import annotations

from goqueue.config.labels import VERSION_MARK
from goqueue.contents.payload_keys import ENCRYPTED

#: Jobs that wait for their time: a run-at, a backoff, a snooze (jobs_later_idx).
LATER = "rare_state = 'waiting'"

#: A job that has its place in the order of its queue.
IN_ORDER = "status = 'queued' AND rank IS NOT NULL"

#: The jobs that may start now, as far as their rows say. What is asked of the columns of `ready_jobs` walks
#: its primary key, in the order of the queue; the limit keeps the planner from joining and sorting all of
#: them.
READY_JOBS = """ready_jobs CROSS JOIN LATERAL (
        SELECT * FROM jobs WHERE jobs.id = ready_jobs.job_id AND jobs.fence = ready_jobs.job_fence LIMIT 1
    ) AS jobs"""

#: The order of the rows of one queue in `ready_jobs`.
READY_ORDER = "queue_name, ready_rank, job_id"


def ready_between(
    queue: str, behind: str = "'-infinity', 0", before: str = "'infinity', 9223372036854775807"
) -> str:
    """Say which rows of `ready_jobs` are of a queue, behind one place in its order and before another.

    It is said as rows, and goes with `READY_ORDER`, to insist on the primary key: of `queue_name = …` the
    planner may expect few, read all that there are and sort them.

    Args:
        queue: an expression of its name.
        behind: expressions of the rank and the id of the first place.
        before: the same of the second.
    """
    return f"({READY_ORDER}) > ({queue}, {behind}) AND ({READY_ORDER}) < ({queue}, {before})"


#: A ready job that no round of admission has let in; those with a key have it as their `open_key`.
READY_OUTSIDE = "NOT admitted"

#: The same, with a key (ready_jobs_key_idx).
READY_OF_KEYS = "open_key IS NOT NULL"

#: The jobs that run; `holder` is their worker (-1: a client of the REST API).
RUNNING_JOBS = """running_jobs CROSS JOIN LATERAL (
        SELECT * FROM jobs WHERE jobs.id = running_jobs.job_id AND status = 'running' LIMIT 1
    ) AS jobs"""

#: A job that was held by workers that died (jobs_suspect_idx).
SUSPECT = "rare_state = 'suspect'"

#: A suspect that may run beside others, in a process that has no other suspect (jobs_suspect_queue_idx).
SUSPECT_BESIDE = f"{SUSPECT} AND suspicion < 2"


def fits(requires: str, labels: str) -> str:
    """Say that a worker of some labels may run what requires some, and needs no version above its own.

    Args:
        requires: an expression of what is required: entries of `goqueue/config/labels.py`, never NULL.
        labels: an expression of what the worker has.
    """
    return f"""(({requires} <@ {labels} OR (
        ({requires})[2:] <@ {labels} AND starts_with(({requires})[1], '{VERSION_MARK}')
        AND starts_with(({labels})[1], '{VERSION_MARK}') AND ({requires})[1] COLLATE "C" <= ({labels})[1]
    )) IS TRUE)"""


#: How often a job is tried again. Of one that requires something of its worker, or takes several slots, the
#: column has -1 - n: a release that knows of neither claims by `attempts <= max_retries`, and so takes none.
MAX_RETRIES = "GREATEST(max_retries, -1 - max_retries)"

#: A suspect that runs alone.
SUSPECT_ALONE = f"{SUSPECT} AND suspicion = 2"

#: A job in a state that few jobs are in, beside completed ones (jobs_rare_idx, and those by queue and by
#: type).
UNSUCCESSFUL = "rare_state IN ('failed','cancelled','expired','blocked')"


def begin_of(column: str, characters: int) -> str:
    """Say the begin of a text that a job holds; of one that is encrypted, all of it: a part is nothing.

    Args:
        column: the text; None stays None.
        characters: so many of it.
    """
    # Without a brace: some statements are formatted again.
    whole = f"starts_with({column}, chr(123) || '{ENCRYPTED[1:]}')"
    return f"CASE WHEN {whole} THEN {column} ELSE left({column}, {characters}) END"


def rank_of(start: str, *, priority: str = "priority") -> str:
    """Say the place in the order of a job that may start from some moment on, by its priority.

    Args:
        start: an expression of the moment.
        priority: an expression of the priority. Each step of it is worth the head start of the settings,
            which the connection knows (`statements.HEAD_START`).
    """
    return f"{start} - make_interval(secs => {priority} * %(head_start)s)"
