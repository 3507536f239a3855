"""The lease protocol over HTTP: what a worker outside of GoQueue gets, and what becomes of what it says."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from falcon import testing

from goqueue.access.keys import Keys
from goqueue.api.app import create_app
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.engine.runway.runway import Message, ReadyRange, Runway
from goqueue.errors import LeaseNotFoundError
from goqueue.jobs import QUARANTINE_QUEUE
from goqueue.remote.lease_tokens import LeaseSigner
from goqueue.scheduler.rescuer import Rescuer
from tests.support.counted import counted
from tests.support.factories import JobFactory
from tests.support.jobs import noop_jobs
from tests.support.shared_database import emptied_database, module_settings

settings = module_settings
database = emptied_database

QUEUE = noop_jobs.noop.queue_name

Create = Callable[..., dict[str, Any]]
Lease = Callable[..., dict[str, Any]]
Say = Callable[..., testing.Result]


@pytest.fixture(autouse=True)
def runways(runway: Runway) -> None:
    """Nothing of the test before stands there, and no gate is closed."""
    for queue in (QUEUE, QUARANTINE_QUEUE):
        runway.remove(queue)


@pytest.fixture
def create(create: Create, runway: Runway) -> Create:
    """Creates a no-op job that stands on the runway when this returns."""

    def create_pushed(**members: Any) -> dict[str, Any]:
        job = create(**members)
        if job["status"] == "queued":
            runway.submit(QUEUE, [Message(job["id"], 0)])
        return job

    return create_pushed


@pytest.fixture
def lease(client: testing.TestClient) -> Lease:
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


@pytest.fixture
def job(create: Create, lease: Lease) -> dict[str, Any]:
    """A leased job."""
    create()
    (leased,) = lease()["jobs"]
    document: dict[str, Any] = leased
    return document


def state_of(client: testing.TestClient, job: dict[str, Any]) -> dict[str, Any]:
    """The job as it is now."""
    document: dict[str, Any] = client.simulate_get(f"/jobs/{job['id']}").json
    return document


def silent_for(database: Database, seconds: float, job: dict[str, Any]) -> None:
    """Let the last that was heard of a job be so long ago; its worker goes on."""
    with database.autocommit() as connection:
        connection.exec_driver_sql(
            "UPDATE jobs SET updated_at = now() - make_interval(secs => %(s)s) WHERE id = %(id)s",
            {"s": seconds, "id": job["id"]},
        )


def rescued(settings: Settings, database: Database, runway: Runway) -> int:
    """Let the rescuer do one round; how many jobs it took back."""
    at_once = settings.model_copy(update={"heartbeat_seconds": 0.0})
    return Rescuer(at_once, database, lambda _seconds: None, runway).run_once()["rescued"]


# Leasing


def test_a_job_is_leased_and_completed(
    client: testing.TestClient, create: Create, lease: Lease, say: Say
) -> None:
    """The worker is told all that it needs, and its result is that of the job."""
    made = create(payload={"number": 7})
    leased = lease(language="go")
    assert {"quiet": False, "stop": False, "lease_seconds": 15.0}.items() <= leased.items()
    (job,) = leased["jobs"]
    assert (job["id"], job["type"], job["payload"]["number"], job["attempt"]) == (made["id"], "noop", 7, 1)
    assert lease()["jobs"] == []
    assert state_of(client, job)["status"] == "running"
    done = say(job, "complete", result={"answer": 42})
    assert done.json == {"job_id": made["id"], "outcome": "completed", "status": "completed"}
    ended = state_of(client, job)
    assert (ended["status"], ended["result"]) == ("completed", {"answer": 42})
    (attempt,) = client.simulate_get(f"/jobs/{made['id']}/attempts").json
    assert (attempt["outcome"], attempt["worker_id"]) == ("completed", leased["worker_id"])


def test_jobs_are_leased_in_their_order_up_to_the_limit(create: Create, lease: Lease) -> None:
    """As many as it asks for, and the others stay for the next."""
    ids = [create()["id"] for _ in range(5)]
    assert [job["id"] for job in lease(limit=2)["jobs"]] == ids[:2]
    assert [job["id"] for job in lease(limit=10)["jobs"]] == ids[2:]


def test_no_job_is_leased_twice(create: Create, lease: Lease) -> None:
    """Two workers get different jobs."""
    ids = {create()["id"] for _ in range(4)}
    one, other = lease(limit=2)["jobs"], lease(worker="w2", limit=2)["jobs"]
    assert {job["id"] for job in one + other} == ids


def test_a_worker_gets_only_types_that_it_knows(create: Create, lease: Lease) -> None:
    """What it does not know stays for others."""
    created = create()["id"]
    assert lease(types=["other"])["jobs"] == []
    assert [job["id"] for job in lease(worker="w2")["jobs"]] in ([], [created])


def test_a_paused_queue_leases_nothing(client: testing.TestClient, create: Create, lease: Lease) -> None:
    """Whatever stands on its runway."""
    create()
    assert client.simulate_post(f"/queues/{QUEUE}/pause", json={}).status_code == 200
    assert lease()["jobs"] == []
    assert client.simulate_post(f"/queues/{QUEUE}/resume").status_code == 200


def test_a_queue_that_nobody_knows_is_not_there(client: testing.TestClient) -> None:
    """Nor is the quarantine a queue of its own for anybody."""
    wanted = {"worker": "w", "types": ["noop"]}
    for name in ("nosuch", QUARANTINE_QUEUE):
        assert client.simulate_post(f"/queues/{name}/lease", json=wanted).status_code == 404


@pytest.mark.parametrize(
    ("members", "field"),
    [
        pytest.param({"worker": ""}, "worker", id="no name"),
        pytest.param({"types": []}, "types", id="no type"),
        pytest.param({"limit": 0}, "limit", id="nothing wanted"),
        pytest.param({"limit": 101}, "limit", id="too much wanted"),
        pytest.param({"wait_seconds": 61}, "wait_seconds", id="too long"),
        pytest.param({"labels": {"a b": "c"}}, "labels", id="no label"),
    ],
)
def test_a_wrong_wish_is_refused(client: testing.TestClient, members: dict[str, Any], field: str) -> None:
    """With the name of what is wrong."""
    wanted = {"worker": "w", "types": ["noop"]} | members
    refused = client.simulate_post(f"/queues/{QUEUE}/lease", json=wanted)
    assert refused.status_code == 400
    assert any(name.startswith(field) for name in refused.json["fields"])


def test_ranges_are_leased_as_messages_are(
    lease: Lease, make_job: JobFactory, runway: Runway, database: Database
) -> None:
    """Of a range the worker gets the first jobs, and the rest goes back."""
    jobs = [make_job(queue=QUEUE) for _ in range(5)]
    with database.autocommit() as connection:
        last = connection.exec_driver_sql(
            "SELECT ready_rank::text, job_id FROM ready_jobs ORDER BY ready_rank DESC, job_id DESC LIMIT 1"
        ).one()
    runway.dispatch_ranges(QUEUE, [range_to(last, 5)], limit=100)
    assert [job["id"] for job in lease(limit=2)["jobs"]] == [job.id for job in jobs[:2]]
    assert [job["id"] for job in lease(limit=9)["jobs"]] == [job.id for job in jobs[2:]]


def test_suspects_are_leased_one_at_a_time(lease: Lease, make_job: JobFactory, runway: Runway) -> None:
    """Beside a suspect a worker gets other jobs, and no other suspect."""
    suspects = [make_job(queue=QUEUE, quarantined=True, suspicion=1, deaths=0) for _ in range(2)]
    other = make_job(queue=QUEUE)
    runway.dispatch_suspects(QUEUE, [Message(job.id, job.fence) for job in suspects], limit=9)
    runway.submit(QUEUE, [Message(other.id, other.fence)])
    assert [job["id"] for job in lease()["jobs"]] == [suspects[0].id]
    assert [job["id"] for job in lease()["jobs"]] == [other.id]
    assert [job["id"] for job in lease(worker="w2")["jobs"]] == [suspects[1].id]


def test_what_runs_alone_is_leased_to_an_idle_worker(
    lease: Lease, say: Say, make_job: JobFactory, runway: Runway
) -> None:
    """Who has it gets nothing else until it has ended; a queue that it is not of gives it to nobody."""
    lonely = make_job(queue=QUEUE, quarantined=True, suspicion=2)
    runway.submit(QUARANTINE_QUEUE, [Message(lonely.id, lonely.fence)])
    (alone,) = lease()["jobs"]
    assert alone["id"] == lonely.id
    other = make_job(queue=QUEUE)
    runway.submit(QUEUE, [Message(other.id, other.fence)])
    assert lease()["jobs"] == []
    assert say(alone, "complete").status_code == 200
    assert [job["id"] for job in lease(worker="w2")["jobs"]] == [other.id]


def range_to(last: Any, jobs: int) -> ReadyRange:
    """All that is ready, up to this place."""
    return ReadyRange(jobs, ("0001-01-01 00:00:00+00", 0), (last[0], last[1]))


# The end of an attempt


def test_saying_it_twice_is_as_good_as_once(
    client: testing.TestClient, job: dict[str, Any], say: Say
) -> None:
    """The same answer, one attempt, and the first result."""
    first = say(job, "complete", result=1)
    assert say(job, "complete", result=2).json == first.json
    assert state_of(client, job)["result"] == 1
    assert len(client.simulate_get(f"/jobs/{job['id']}/attempts").json) == 1


def test_another_end_is_a_conflict(job: dict[str, Any], say: Say) -> None:
    """What has ended cannot end otherwise; the problem says what the job is."""
    say(job, "complete")
    refused = say(job, "fail", error="too late")
    assert (refused.status_code, refused.json["job_status"]) == (409, "completed")


@pytest.mark.parametrize("what", ["complete", "fail", "heartbeat"])
def test_a_lease_that_was_lost_is_a_conflict(
    client: testing.TestClient, job: dict[str, Any], say: Say, what: str
) -> None:
    """A client of the original contract moved the job: the lease is over, and says so."""
    assert client.simulate_put(f"/jobs/{job['id']}/status", json={"status": "queued"}).status_code == 204
    before = counted("stale_results_total")
    refused = say(job, what)
    assert (refused.status_code, refused.json["job_status"]) == (409, "queued")
    assert counted("stale_results_total") - before == (what != "heartbeat")


@pytest.mark.parametrize("what", ["complete", "fail", "heartbeat", "progress", "log"])
def test_a_forged_token_stands_for_nothing(
    client: testing.TestClient, job: dict[str, Any], what: str
) -> None:
    """Not a changed one, not one of another client, and not nonsense."""
    body, _, signature = job["token"].rpartition(".")
    for token in (f"{body[:-1]}A.{signature}", f"{body}.{signature[:-1]}", "x", ".", "%F0%9F%99%82.a"):
        assert client.simulate_post(f"/leases/{token}/{what}", json={}).status_code == 404


def test_a_token_is_good_for_its_client_alone(database: Database, job: dict[str, Any]) -> None:
    """A key of another name does not know the lease, whatever process it asks."""
    signer = LeaseSigner(database)
    assert signer.read(job["token"], "").id == job["id"]
    with pytest.raises(LeaseNotFoundError):
        signer.read(job["token"], "another")


def test_a_result_over_the_limit_is_refused(settings: Settings, job: dict[str, Any], say: Say) -> None:
    """The job is held as before, and may end otherwise."""
    refused = say(job, "complete", result="x" * settings.result_max_bytes)
    assert refused.status_code == 413
    assert say(job, "complete", result="x").json["status"] == "completed"


def test_a_failure_is_retried_by_the_policy_of_its_type(
    client: testing.TestClient, job: dict[str, Any], say: Say
) -> None:
    """The attempt is counted, the error and its kind are kept, and the job waits for its backoff."""
    failed = say(job, "fail", error="no route to host 7", error_type="net.OpError", traceback="at main.go:3")
    assert failed.json == {"job_id": job["id"], "outcome": "failed", "status": "queued"}
    now = state_of(client, job)
    assert (now["attempts"], now["error"]) == (1, "net.OpError: no route to host 7")
    assert now["available_at"] > now["created_at"]
    (attempt,) = client.simulate_get(f"/jobs/{job['id']}/attempts").json
    assert (attempt["outcome"], attempt["traceback"]) == ("failed", "at main.go:3")


def test_the_last_attempt_fails_for_good(
    client: testing.TestClient, create: Create, lease: Lease, say: Say
) -> None:
    """And stands in its group of failures."""
    create(max_retries=0)
    (job,) = lease()["jobs"]
    assert say(job, "fail", error="broken", error_type="E").json["status"] == "failed"
    (group,) = client.simulate_get("/failures").json
    assert (group["exception"], group["count"]) == ("E", 1)


def test_a_worker_may_say_when_to_retry(job: dict[str, Any], say: Say, database: Database) -> None:
    """To the second, and it spends an attempt as any failure does."""
    assert say(job, "fail", error="busy", retry_after=100).json["status"] == "queued"
    with database.autocommit() as connection:
        seconds = connection.exec_driver_sql(
            "SELECT extract(epoch FROM available_at - updated_at)::float FROM jobs"
        ).scalar_one()
    assert seconds == pytest.approx(100, abs=0.5)


def test_a_worker_may_discard(client: testing.TestClient, job: dict[str, Any], say: Say) -> None:
    """It has failed, with retries left."""
    assert say(job, "fail", error="bad address", discard=True).json["status"] == "failed"
    assert state_of(client, job)["attempts"] == 1
    assert say(job, "fail", error="bad address", discard=True).json["status"] == "failed"


def test_a_worker_that_stops_gives_back(client: testing.TestClient, job: dict[str, Any], say: Say) -> None:
    """No attempt is spent, and the next worker gets it."""
    assert say(job, "fail", interrupted=True).json == {
        "job_id": job["id"],
        "outcome": "interrupted",
        "status": "queued",
    }
    assert state_of(client, job)["attempts"] == 0


def test_only_one_way_to_fail_is_said(job: dict[str, Any], say: Say) -> None:
    """Discarded and retried later is a contradiction."""
    assert say(job, "fail", discard=True, retry_after=1).status_code == 400


def test_many_are_completed_at_once(
    client: testing.TestClient, create: Create, lease: Lease, say: Say
) -> None:
    """In one request, those that are held; the others are named."""
    for _ in range(3):
        create()
    one, two, lost = lease()["jobs"]
    say(lost, "fail", discard=True)
    said = [{"token": job["token"], "result": number} for number, job in enumerate((one, two, lost))]
    answer = client.simulate_post("/leases/complete", json={"leases": [*said, {"token": "x"}]}).json
    assert [end["job_id"] for end in answer["completed"]] == [one["id"], two["id"]]
    assert answer["lost_tokens"] == [lost["token"], "x"]
    assert state_of(client, two)["result"] == 1


def test_dependants_are_released(client: testing.TestClient, create: Create, lease: Lease, say: Say) -> None:
    """What waits for a leased job starts when that completes."""
    parent = create()
    child = create(depends_on=[parent["id"]])
    (job,) = lease()["jobs"]
    assert state_of(client, child)["status"] == "blocked"
    say(job, "complete")
    assert [one["id"] for one in lease()["jobs"]] == [child["id"]]


def test_ends_are_counted_as_those_of_any_worker(job: dict[str, Any], say: Say) -> None:
    """By queue and status."""
    labels = {"queue": QUEUE, "status": "completed"}
    before = counted("jobs_processed_total", **labels)
    say(job, "complete")
    assert counted("jobs_processed_total", **labels) == before + 1


# While it runs


def test_a_heartbeat_keeps_the_lease(
    job: dict[str, Any], say: Say, settings: Settings, database: Database, runway: Runway
) -> None:
    """A job that was heard of is left alone."""
    silent_for(database, 100, job)
    assert say(job, "heartbeat").json == {
        "lease_seconds": 15.0,
        "cancel": False,
        "quiet": False,
        "stop": False,
        "cancelled_tokens": [],
        "lost_tokens": [],
    }
    assert rescued(settings, database, runway) == 0


def test_a_job_of_which_nothing_is_heard_is_taken_back(
    client: testing.TestClient,
    job: dict[str, Any],
    say: Say,
    lease: Lease,
    settings: Settings,
    database: Database,
    runway: Runway,
) -> None:
    """Its worker goes on: the answer was lost, or another process has its name. No attempt is spent."""
    silent_for(database, 100, job)
    lease()
    assert rescued(settings, database, runway) == 1
    now = state_of(client, job)
    assert (now["status"], now["attempts"], now["reason"]) == ("queued", 0, "worker_died")
    assert say(job, "complete").status_code == 409
    (attempt,) = client.simulate_get(f"/jobs/{job['id']}/attempts").json
    assert "no heartbeat" in attempt["error"]


def test_a_dead_worker_loses_its_jobs(
    client: testing.TestClient,
    job: dict[str, Any],
    create: Create,
    lease: Lease,
    say: Say,
    settings: Settings,
    database: Database,
    runway: Runway,
) -> None:
    """As any worker that fell silent; it leases again under a new row."""
    with database.autocommit() as connection:
        connection.exec_driver_sql("UPDATE workers SET heartbeat_at = now() - interval '1 minute'")
    assert rescued(settings, database, runway) == 1
    assert say(job, "heartbeat").status_code == 409
    (before,) = client.simulate_get("/workers").json
    made = create()
    after = lease()
    assert [one["id"] for one in after["jobs"]] == [made["id"]]
    assert after["worker_id"] != before["id"]


def test_a_heartbeat_speaks_for_several_jobs(create: Create, lease: Lease, say: Say) -> None:
    """And says which of them are lost."""
    for _ in range(3):
        create()
    one, two, three = lease()["jobs"]
    say(three, "complete")
    answer = say(one, "heartbeat", tokens=[two["token"], three["token"], "x"]).json
    assert answer["lost_tokens"] == [three["token"], "x"]


def test_a_cancel_reaches_the_worker(client: testing.TestClient, job: dict[str, Any], say: Say) -> None:
    """With its heartbeat; the job is cancelled when the worker says that it stopped."""
    client.simulate_post(f"/jobs/{job['id']}/cancel")
    assert say(job, "heartbeat").json["cancel"] is True
    assert say(job, "fail", cancelled=True).json["status"] == "cancelled"
    assert state_of(client, job)["status"] == "cancelled"


@pytest.mark.parametrize("command", ["quiet", "stop"])
def test_a_command_reaches_the_worker(
    client: testing.TestClient, create: Create, job: dict[str, Any], lease: Lease, say: Say, command: str
) -> None:
    """With its heartbeat and with its leases, which give it nothing more."""
    create()
    worker_id = client.simulate_get("/workers").json[0]["id"]
    client.simulate_post(f"/workers/{worker_id}/{command}")
    assert say(job, "heartbeat").json[command] is True
    fresh = lease(types=["noop", "another"])
    assert (fresh["jobs"], fresh[command]) == ([], True)


def test_the_workers_are_listed(client: testing.TestClient, lease: Lease) -> None:
    """With what they are, until they say goodbye."""
    lease(language="rust", slots=4, labels={"gpu": "true"})
    (worker,) = client.simulate_get("/workers").json
    assert (worker["hostname"], worker["language"], worker["threads"]) == ("w1", "rust", 4)
    assert worker["labels"] == {"gpu": "true"}
    assert worker["address"]
    wanted = {"worker": "w1", "types": ["noop"], "goodbye": True}
    assert client.simulate_post(f"/queues/{QUEUE}/lease", json=wanted).status_code == 204
    (gone,) = client.simulate_get("/workers").json
    assert (gone["alive"], gone["shutdown_reason"]) == (False, "signal")


def test_progress_and_logs_are_kept(client: testing.TestClient, job: dict[str, Any], say: Say) -> None:
    """As those of any attempt, while it is held."""
    assert say(job, "progress", progress=0.5, message="half").status_code == 204
    assert say(job, "log", lines=["one", "two"]).json == {"kept": 2, "cut": 0}
    assert say(job, "log", lines=["three"]).json == {"kept": 1, "cut": 0}
    told = client.simulate_get(f"/jobs/{job['id']}/progress").json
    assert (told["progress"], told["message"]) == (0.5, "half")
    lines = client.simulate_get(f"/jobs/{job['id']}/logs").json
    assert [(line["line"], line["text"]) for line in lines] == [(1, "one"), (2, "two"), (3, "three")]
    say(job, "complete")
    assert say(job, "progress", progress=1).status_code == 409
    assert say(job, "log", lines=["late"]).status_code == 409


def test_a_log_has_a_bound(
    client: testing.TestClient, settings: Settings, job: dict[str, Any], say: Say
) -> None:
    """What does not fit is cut, and the log says so once."""
    line = "x" * 60_000
    count = settings.attempt_log_max_bytes // len(line) + 2
    answers = [say(job, "log", lines=[line]).json for _ in range(count)]
    assert answers[0] == {"kept": 1, "cut": 0}
    assert answers[-1] == {"kept": 0, "cut": 1}
    lines = client.simulate_get(f"/jobs/{job['id']}/logs").json
    assert "are kept of the log" in lines[-1]["text"]
    assert sum(len(one["text"]) + 1 for one in lines[:-1]) <= settings.attempt_log_max_bytes


# Keys


@pytest.fixture
def with_key(
    settings: Settings, database: Database, runway: Runway
) -> Callable[..., Callable[..., testing.Result]]:
    """Asks with a key that may run jobs, restricted as given."""
    needing = settings.model_copy(update={"api_keys_required": True})
    client = testing.TestClient(create_app(needing, database=database, runway=runway))
    keys = Keys(database)

    def with_key(*scopes: str, **only: Any) -> Callable[..., testing.Result]:
        headers = {"Authorization": f"Bearer {keys.create('a worker', *scopes, **only).text}"}

        def post(path: str, document: Any) -> testing.Result:
            return client.simulate_post(path, json=document, headers=headers)

        return post

    return with_key


def test_a_restricted_key_leases_only_its_own(with_key: Callable[..., Any], create: Create) -> None:
    """Another queue is not there for it, and of types it gets its own."""
    wanted = {"worker": "w", "types": ["noop", "other"]}
    path = f"/queues/{QUEUE}/lease"
    assert with_key("worker", queues=["other"])(path, wanted).status_code == 404
    assert with_key("worker", types=["third"])(path, wanted).status_code == 403
    create()
    assert with_key("worker", types=["other"])(path, wanted).json["jobs"] == []
    create()
    assert len(with_key("worker", types=["noop"])(path, wanted | {"worker": "v"}).json["jobs"]) == 1


def test_a_key_that_may_not_read_payloads_is_given_none(with_key: Callable[..., Any], create: Create) -> None:
    """It may run the job all the same."""
    create(payload={"text": "secret"})
    post = with_key("jobs:run")
    leased = post(f"/queues/{QUEUE}/lease", {"worker": "w", "types": ["noop"]})
    assert leased.json["jobs"][0]["payload"] is None
    assert "secret" not in leased.text
    assert post(f"/leases/{leased.json['jobs'][0]['token']}/complete", {}).status_code == 200


# Types that are declared from outside, and versions


def test_a_declared_type_is_leased_with_its_limits_and_policy(
    client: testing.TestClient, runway: Runway
) -> None:
    """Its time limit is told with the job, and a failed attempt is retried after its backoff."""
    declared = {"schema": {}, "queue": QUEUE, "max_retries": 1, "time_limit_seconds": 77, "jitter": False}
    declared |= {"min_backoff_seconds": 500, "max_backoff_seconds": 900}
    client.simulate_put("/types/transcode", json={"declared": declared})
    made = client.simulate_post(
        "/jobs/create", json={"queue": QUEUE, "type": "transcode", "payload": {}}
    ).json
    runway.submit(QUEUE, [Message(made["id"], 0)])
    wanted = {"worker": "w1", "types": ["transcode"]}
    (job,) = client.simulate_post(f"/queues/{QUEUE}/lease", json=wanted).json["jobs"]
    assert job["time_limit_seconds"] == 77
    said = client.simulate_post(f"/leases/{job['token']}/fail", json={"error": "no"})
    assert said.status_code == 200, said.text
    row = client.simulate_get(f"/jobs/{made['id']}").json
    waits = datetime.fromisoformat(row["available_at"]) - datetime.fromisoformat(row["updated_at"])
    assert (row["status"], 499 < waits.total_seconds() < 501) == ("queued", True)


def test_an_older_worker_leases_nothing_that_needs_a_newer_one(create: Create, lease: Lease) -> None:
    """It says its version with each call; one that says none has none."""
    job = create(min_version=4)
    assert lease()["jobs"] == lease(version=3)["jobs"] == []
    create()
    assert len(lease(worker="w2", version=3)["jobs"]) == 1
    assert job["min_version"] == 4


def test_a_newer_worker_leases_it(create: Create, lease: Lease) -> None:
    """A higher version will do."""
    job = create(min_version=4)
    assert [one["id"] for one in lease(version=10)["jobs"]] == [job["id"]]
