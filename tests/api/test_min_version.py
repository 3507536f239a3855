"""The version that a job needs of its worker, over REST and from Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dramatiq
from falcon import testing

from goqueue.config.labels import with_version
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.engine.options.known_types import KnownTypes
from goqueue.engine.runway.runway import Runway
from goqueue.instance import GoQueue
from goqueue.worker.job_types import JobTypes
from tests.support.factories import JobFactory
from tests.support.shared_database import emptied_database, module_settings

settings = module_settings
database = emptied_database

LABELS = {"gpu": "true"}


def needs(document: dict[str, Any]) -> tuple[Any, Any]:
    """What a job requires of its worker."""
    return document["min_version"], document["requires"]


def test_a_job_says_it_beside_its_labels(
    client: testing.TestClient, create: Callable[..., dict[str, Any]]
) -> None:
    """Each is said, changed and taken back by itself; versions of the job keep what it was."""
    job = create(min_version=4, requires=LABELS)
    assert needs(job) == (4, LABELS)
    assert needs(create(min_version=0)) == needs(create()) == (None, {})
    path = f"/jobs/{job['id']}"
    assert needs(client.simulate_patch(path, json={"min_version": 5}).json) == (5, LABELS)
    assert needs(client.simulate_patch(path, json={"requires": {}}).json) == (5, {})
    assert needs(client.simulate_patch(path, json={"min_version": 0}).json) == (None, {})
    assert needs(client.simulate_patch(path, json={"min_version": 6}).json) == (6, {})
    client.simulate_post(f"{path}/cancel")
    assert needs(client.simulate_post(f"{path}/retry").json) == (6, {})
    client.simulate_post(f"{path}/cancel")
    versions = client.simulate_get(f"{path}/versions").json
    assert [one["min_version"] for one in versions] == [4, 5, 5, None, 6]
    assert client.simulate_post("/jobs/create", json={"queue": "noop", "min_version": -1}).status_code == 400


def test_a_type_says_it_for_its_jobs(client: testing.TestClient) -> None:
    """What a declared type needs is what its jobs need that do not say; so is it of an actor."""
    declared = {"schema": {}, "min_version": 3, "requires": LABELS}
    made = client.simulate_put("/types/transcode", json={"declared": declared}).json
    assert needs(made) == (3, LABELS)
    job = {"queue": "default", "type": "transcode", "payload": {}}
    assert needs(client.simulate_post("/jobs/create", json=job).json) == (3, LABELS)
    other = job | {"min_version": 4}
    assert needs(client.simulate_post("/jobs/create", json=other).json) == (4, LABELS)
    assert needs(client.simulate_post("/jobs/create", json=job | {"requires": {}}).json) == (3, {})
    schedule = {"name": "n", "cron": "@daily", **other}
    assert needs(client.simulate_post("/schedules", json=schedule).json) == (4, LABELS)


def test_an_actor_and_a_worker_say_it(settings: Settings, database: Database, runway: Runway) -> None:
    """`min_version` of an actor, and `GOQUEUE_WORKER_VERSION` of the process that runs its jobs."""
    with GoQueue(settings, database=database, runway=runway) as program:

        @program.actor(min_version=2, requires={"gpu": True})
        def render() -> None: ...

        assert isinstance(render, dramatiq.Actor)
        job_id = program.create(render, {}, min_version=3)
        with database.autocommit() as connection:
            row = connection.exec_driver_sql("SELECT requires FROM jobs WHERE id = %(id)s", {"id": job_id})
            assert row.scalar_one() == ["!version=0000000003", "gpu=true"]
    types = JobTypes(settings.model_copy(update={"worker_version": 7, "worker_labels": LABELS}))
    assert types.known(1).labels == with_version(["gpu=true"], 7)


def test_workers_are_shown_with_theirs(client: testing.TestClient, make_job: JobFactory) -> None:
    """`GET /workers` has it beside the labels, which do not show it."""
    make_job.worker(queues=["default"], known=KnownTypes({}, labels=with_version(["gpu=true"], 7)))
    make_job.worker(queues=["default"], known=KnownTypes({}))
    shown = [(one["version"], one["labels"]) for one in client.simulate_get("/workers").json]
    assert (7, LABELS) in shown
    assert (0, {}) in shown
