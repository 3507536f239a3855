"""An installation whose jobs hold a secret wherever a job can hold something; and every way to look at it."""

from __future__ import annotations

from collections.abc import Sequence

from falcon import testing

from goqueue.db.database import Database
from goqueue.jobs import JobStatus
from tests.support.database.plans import run_script
from tests.support.factories import JobFactory
from tests.support.jobs import noop_jobs

__all__ = ["SECRETS", "SecretJobs"]

QUEUE = noop_jobs.noop.queue_name
FINGERPRINT = "0123456789abcdef"
WEBHOOK = "shop"

#: Where one of them lies.
SECRETS = (
    "secret-payload",
    "secret-result",
    "secret-error",
    "secret-traceback",
    "secret-log",
    "secret-progress",
    "secret-edit",
    "secret-schedule",
    "secret-search",
    "secret-kind",
    "secret-body",
    "secret-answer",
)

_FAILED_WITH = "ValueError: secret-error"
_TRACEBACK = 'Traceback (most recent call last):\n  File "a.py", line 1, in f\nValueError: secret-traceback'


class SecretJobs:
    """Jobs of all kinds, made by the doors that there are, or as rows.

    Attributes:
        ids: of all of them.
        operation_id: of an operation that searches for something.
        delivery_id: of a webhook's delivery with contents.
    """

    def __init__(self, database: Database, make_job: JobFactory, admin: testing.TestClient) -> None:
        payload = {"text": "secret-payload"}
        failed = make_job(
            JobStatus.FAILED,
            payload=payload,
            error=_FAILED_WITH,
            fingerprint=FINGERPRINT,
            attempts=1,
            reason="failed",
        )
        running = make_job(JobStatus.RUNNING, payload=payload)
        completed = make_job(JobStatus.COMPLETED, payload=payload, result='{"text": "secret-result"}')
        waiting = make_job(payload=payload, attempts=1, fence=1, error=_FAILED_WITH)
        for job in (failed, waiting):
            make_job.attempt(job, error=_FAILED_WITH, traceback=_TRACEBACK)
        make_job.attempt(completed, "completed")
        run_script(
            database,
            f"""
            UPDATE jobs SET rank = NULL, available_at = now() + interval '1 hour' WHERE id = {waiting.id};
            INSERT INTO failure_kinds (fingerprint, type, exception, message)
                VALUES ('{FINGERPRINT}', 'noop', 'ValueError', 'secret-kind');
            INSERT INTO attempt_logs (job_id, fence, line, text, logged_at)
                SELECT id, 1, 1, 'secret-log', now() FROM jobs;
            INSERT INTO attempt_progress (job_id, fence, progress, message)
                SELECT id, 1, 0.5, 'secret-progress' FROM jobs;
            INSERT INTO webhook_subscriptions (name, token, url, with_contents, secret, cursor, created_by)
                VALUES ('{WEBHOOK}', 'token', 'https://shop.example', true, 'whsec_', '1.0', 'admin');
            INSERT INTO webhook_deliveries (subscription_id, event_id, kind, about_job_id, body)
                SELECT id, 1, 'job.completed', {completed.id}, '{{"data":{{"result":"secret-body"}}}}'
                FROM webhook_subscriptions;
            INSERT INTO webhook_attempts (delivery_id, job_id, at, seconds, status, answer)
                SELECT id, 1, now(), 0.1, 500, 'secret-answer' FROM webhook_deliveries
            """,
        )
        with database.autocommit() as connection:
            found = connection.exec_driver_sql("SELECT id FROM webhook_deliveries")
            self.delivery_id = int(found.scalar_one())
        edited = make_job(payload={"text": "before"})
        change = {"payload": {"text": "secret-edit"}, "author": "somebody"}
        assert admin.simulate_patch(f"/jobs/{edited.id}", json=change).status_code == 200
        schedule = {"name": "nightly", "cron": "0 2 * * *", "queue": QUEUE, "type": "noop"} | {
            "payload": {"text": "secret-schedule"}
        }
        assert admin.simulate_post("/schedules", json=schedule).status_code == 201
        search = {"status": "failed", "payload": "secret-search", "error": "secret-search"}
        begun = admin.simulate_post("/bulk-operations", json={"action": "retry", "filter": search})
        assert begun.status_code == 202
        self.operation_id = int(begun.json["id"])
        self.ids = [job.id for job in (failed, running, completed, waiting, edited)]

    def addresses(self, path: str) -> Sequence[str]:
        """The addresses of a GET of the API, by its template."""
        if path == "/jobs":
            return [f"/jobs?status={status.value}" for status in JobStatus]
        if "{job_id}" in path:
            return [path.format(job_id=job_id) for job_id in self.ids]
        names = {
            "/types/{name}": "noop",
            "/schedules/{name}": "nightly",
            "/schedules/{name}/ticks": "nightly",
        }
        names |= {"/schedules/{name}/preview": "nightly"}
        if path.startswith("/webhooks/"):
            names[path] = WEBHOOK
        found = {"name": names.get(path, QUEUE), "fingerprint": FINGERPRINT, "key": "k", "key_id": "a" * 12}
        numbers = {"operation_id": self.operation_id, "worker_id": 1, "delivery_id": self.delivery_id}
        return [path.format(**found, **numbers)]

    @property
    def places(self) -> dict[str, list[str]]:
        """What the addresses of pages stand for: see `tests.support.dashboard.pages.addresses`."""
        ids = [str(job_id) for job_id in self.ids]
        return {
            "jobs": ids,
            "editable": [ids[0], ids[-1]],
            "operations": [str(self.operation_id)],
            "workers": ["1"],
            "queues": [QUEUE, "default"],
            "types": ["noop"],
            "schedules": ["nightly"],
            "failures": [FINGERPRINT],
            "keys": ["a" * 12],
            "namespaces": ["nobody"],
            "webhooks": [WEBHOOK],
            "deliveries": [str(self.delivery_id)],
        }
