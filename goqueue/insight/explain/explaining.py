"""Asking from Python why a job is not running; REST asks by `GET /jobs/{id}/explain`."""

from __future__ import annotations

from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.engine.options.arguments import expect_whole_number
from goqueue.engine.submit import current_broker
from goqueue.errors import JobNotFoundError
from goqueue.insight.explain import Explanation
from goqueue.insight.explain import fact_rows as explanation_store
from goqueue.jobs import MAX_JOB_ID

__all__ = ["explain", "explain_job"]


def explain_job(database: Database, settings: Settings, job_id: int) -> Explanation:
    """Explain why a job does not run, by the database of these settings.

    Raises:
        JobNotFoundError: there is no such job.
        DatabaseUnavailableError: PostgreSQL does not answer.
    """
    expect_whole_number("job_id", job_id)
    if not 0 < job_id <= MAX_JOB_ID:
        raise JobNotFoundError(job_id)
    with database.transaction() as connection:
        return explanation_store.explain(
            connection, job_id, lease_seconds=settings.lease_seconds, max_deaths=settings.max_deaths
        )


def explain(job_id: int) -> Explanation:
    """Explain why a job does not run: what blocks it, with the evidence, and when it is expected to start.

    For a running or a finished job the summary says that. Reads only, within some milliseconds.

    Raises:
        JobNotFoundError: there is no such job.
        DatabaseUnavailableError: PostgreSQL does not answer.
    """
    broker = current_broker()
    return explain_job(broker.database, broker.settings, job_id)
