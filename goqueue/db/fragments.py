"""SQL that many statements share: the order of jobs, and the states of queued ones as the indexes have them.

An index serves a statement that repeats its condition word for word: `goqueue/db/tables/jobs.py` makes the
indexes of these texts.
"""

from __future__ import annotations

#: A job that waits for its time: a run-at, a backoff, a snooze (jobs_waiting_idx).
LATER = "status = 'queued' AND rank IS NULL"

#: A job that has its place in the order of its queue.
IN_ORDER = "status = 'queued' AND rank IS NOT NULL"

#: A job that may start now, as far as its row says (jobs_ready_idx).
READY = f"{IN_ORDER} AND NOT quarantined"

#: A ready job that no round of admission has let in; jobs_key_ready_idx has those with a key.
READY_OUTSIDE = f"{READY} AND NOT admitted"

#: The same, with a key.
READY_OF_KEYS = f"{READY_OUTSIDE} AND concurrency_key IS NOT NULL"

#: A job that was held by workers that died (jobs_quarantined_idx).
SUSPECT = f"{IN_ORDER} AND quarantined"

#: A suspect that may run beside others, in a process that has no other suspect (jobs_suspects_idx).
SUSPECT_BESIDE = f"{SUSPECT} AND suspicion < 2"

#: How often a job is tried again. Of one that requires something of its worker, or takes several slots, the
#: column has -1 - n: a release that knows of neither claims by `attempts <= max_retries`, and so takes none.
MAX_RETRIES = "GREATEST(max_retries, -1 - max_retries)"

#: A suspect that runs alone.
SUSPECT_ALONE = f"{SUSPECT} AND suspicion = 2"

#: A job in a state that few jobs are in, beside completed ones (jobs_unsuccessful_idx, and those by queue and
#: by type).
UNSUCCESSFUL = "status IN ('failed','cancelled','expired','blocked')"


def rank_of(start: str, *, priority: str = "priority") -> str:
    """Say the place in the order of a job that may start from some moment on, by its priority.

    Args:
        start: an expression of the moment.
        priority: an expression of the priority. Each step of it is worth the head start of the settings,
            which the connection knows (`statements.HEAD_START`).
    """
    return f"{start} - make_interval(secs => {priority} * %(head_start)s)"
