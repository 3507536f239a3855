"""The lease protocol over HTTP: what a worker outside of GoQueue gets, and what becomes of what it says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from falcon import testing

from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.engine.runway.runway import Runway
from goqueue.engine.workers.worker_rows import WorkerCommand
from goqueue.engine.workers.worker_commands import tell_worker
from goqueue.scheduler.rescuer import Rescuer
from tests.support.counted import counted
from tests.support.jobs import noop_jobs
from tests.support.shared_database import emptied_database, module_settings

settings = module_settings
database = emptied_database

QUEUE = noop_jobs.noop.queue_name
NOBODY = {"jobs": []}

Lease = Callable[..., dict[str, Any]]
Say = Callable[..., testing.Result]


@pytest.fixture
def lease(client: testing.TestClient, runway: Runway) -> Lease:
    """Lease jobs of the no-op queue; members of the request may be given."""

    def lease(**members: Any) -> dict[str, Any]:
        wanted = {"worker": "w1", "types": ["noop"], "limit": 10} | members
        result = client.simulate_post(f"/queues/{QUEUE}/lease", json=wanted)
        assert result.status_code == 200, result.text
        document: dict[str, Any] = result.json
        return document

    return lease


@pytest.fixture
def say(client: testing.TestClient) -> Say:
    """Say something of a leased job."""

    def say(job: dict[str, Any], what: str, **members: Any) -> testing.Result:
        return client.simulate_post(f"/leases/{job['token']}/{what}", json=members)

    return say


def test_a_job_is_leased_and_completed(
    client: testing.TestClient, create: Callable[..., dict[str, Any]], lease: Lease, say: Say
) -> None:
    """The worker is told all that it needs, and its result is that of the job."""
    made = create(payload={"number": 7})
    leased = lease(language="go")
    assert {"quiet": False, "stop": False, "lease_seconds": 15.0}.items() <= leased.items()
    (job,) = leased["jobs"]
    assert (job["id"], job["type"], job["payload"]["number"], job["attempt"]) == (made["id"], "noop", 7, 1)
    assert lease()["jobs"] == []
    running = client.simulate_get(f"/jobs/{made['id']}").json
    assert running["status"] == "running"
    done = say(job, "complete", result={"answer": 42})
    assert done.json == {"job_id": made["id"], "outcome": "completed", "status": "completed"}
    ended = client.simulate_get(f"/jobs/{made['id']}").json
    assert (ended["status"], ended["result"]) == ("completed", {"answer": 42})
    (attempt,) = client.simulate_get(f"/jobs/{made['id']}/attempts").json
    assert (attempt["outcome"], attempt["worker_id"]) == ("completed", leased["worker_id"])
