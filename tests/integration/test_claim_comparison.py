"""Both sides of a claim, compared at each renewal of the lease."""

from __future__ import annotations

from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.engine import job_rows as job_store
from goqueue.worker.claim_comparison import ClaimComparison
from goqueue.worker.claiming.claims import ClaimedJobs
from goqueue.worker.interrupts import Interrupts
from tests.support.counted import counted
from tests.support.factories import JobFactory
from tests.support.shared_database import emptied_database, module_settings

settings = module_settings
database = emptied_database


def test_a_claim_whose_answer_was_lost_goes_back_when_it_is_unknown_twice(
    settings: Settings, database: Database, make_job: JobFactory
) -> None:
    """Once it may be on its way; the second time it is given back, unspent, and counted as such."""
    claimed_jobs = ClaimedJobs()
    claimed_jobs.worker_id = make_job.worker_id
    comparison = ClaimComparison(settings, database, claimed_jobs, Interrupts())
    job = make_job()
    assert len(make_job.claim(job)) == 1
    before = counted("jobs_given_back_total", reason="claim_lost")
    for expected in ("running", "queued"):
        with database.autocommit() as connection:
            held = comparison.held(connection, known=set())
        comparison.reconcile(known=set(), held=held)
        with database.autocommit() as connection:
            assert job_store.get(connection, job.id).status == expected
    assert counted("jobs_given_back_total", reason="claim_lost") == before + 1
    with database.autocommit() as connection:
        assert job_store.get(connection, job.id).attempts == 0
