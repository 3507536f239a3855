"""The explanation why a job is not running, from the facts of the record and what follows from them."""

from __future__ import annotations

from collections.abc import Callable

from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.engine.options.arguments import expect_id
from goqueue.engine.options.batch import Batch
from goqueue.errors import JobNotFoundError
from goqueue.insight.explain import Explanation
from goqueue.insight.explain import fact_rows as explanation_store
from goqueue.insight.explain.fact_rows import not_batched

__all__ = ["explain_job"]


def explain_job(
    database: Database,
    settings: Settings,
    job_id: int,
    batch_of: Callable[[str], Batch | None] = not_batched,
    *,
    with_errors: bool = True,
) -> Explanation:
    """Explain why a job does not run, by the database of these settings.

    `batch_of`: tells how the jobs of a type are batched, as far as this process knows. `with_errors`: quote
    the texts of errors.

    Raises:
        JobNotFoundError: there is no such job.
        DatabaseUnavailableError: PostgreSQL does not answer.
    """
    expect_id("job_id", job_id, JobNotFoundError)
    with database.transaction() as connection:
        return explanation_store.explain(
            connection,
            job_id,
            lease_seconds=settings.lease_seconds,
            max_deaths=settings.max_deaths,
            batch_of=batch_of,
            with_errors=with_errors,
        )
