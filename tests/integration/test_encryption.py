"""Encryption at rest: after a whole life of encrypted jobs no server keeps anything of them in clear."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import Any

import orjson
import pytest
from falcon import testing
from pydantic import SecretStr

import goqueue
from goqueue.api.app import create_app
from goqueue.config.settings import Settings
from goqueue.dashboard.site import DASHBOARD
from goqueue.db.database import Database
from goqueue.dev.embedded import EmbeddedPostgres, EmbeddedValkey
from goqueue.engine.new_job import new_job
from goqueue.engine.output_rows import output_behind
from goqueue.errors import InvalidJobError
from goqueue.instance import GoQueue, default
from goqueue.jobs import JobStatus, UniqueMode
from goqueue.schedules import scheduling
from goqueue.schedules.rules import ScheduleDefinition, Source
from tests.support.database.everything import all_keys, all_rows
from tests.support.engine import Engine, running_engine
from tests.support.jobs.confidential_jobs import KEYS, QUEUE, SECRET, declare
from tests.support.shared_database import TESTED_HOST
from tests.support.waiting import wait_until

#: Tables that have something of what a job holds.
HOLDS_CONTENTS = (
    "jobs",
    "attempts",
    "attempt_logs",
    "attempt_progress",
    "job_output",
    "job_versions",
    "schedules",
    "unique_keys",
    "idempotency_keys",
    "failure_kinds",
)


@pytest.fixture(scope="module")
def engine(postgres: EmbeddedPostgres, valkey: EmbeddedValkey) -> Iterator[Engine]:
    """An engine that all tests of this module share."""
    with running_engine(postgres, valkey, "encryption", declare, payload_keys=KEYS) as engine:
        yield engine


@contextmanager
def api(engine: Engine, **changes: Any) -> Iterator[testing.TestClient]:
    """A client of an API with the settings of the engine, and changes of these."""
    settings = engine.settings.model_copy(update={"allowed_hosts": (TESTED_HOST,)} | changes)
    database = Database(settings)
    yield testing.TestClient(
        create_app(settings, database=database, runway=engine.broker.runway, site=DASHBOARD)
    )
    database.close()


@pytest.fixture
def client(engine: Engine) -> Iterator[testing.TestClient]:
    """A client of an API with the same keys."""
    with api(engine) as client:
        yield client


def actor(engine: Engine, name: str) -> Any:
    """A declared actor."""
    return engine.broker.actors[name]


def stored(engine: Engine, job_id: int) -> dict[str, Any]:
    """What the row of a job holds, as it is kept."""
    ((payload, result, error, key),) = engine.rows(
        "SELECT payload, result, error, payload_key FROM jobs WHERE id = %(id)s", id=job_id
    )
    return {"payload": payload, "result": result, "error": error, "key": key}


def test_a_job_is_decrypted_for_its_worker_and_its_readers_alone(engine: Engine) -> None:
    """Payload and result are envelopes in the row, and what they are for the handler and for readers."""
    job_id = goqueue.enqueue(actor(engine, "give"), {"card": SECRET})
    job = engine.wait_for(job_id)
    assert (job.payload, job.result) == ({"card": SECRET}, {"charged": SECRET})
    assert (job.encrypted_with, job.undecryptable) == ("k2", ())
    row = stored(engine, job_id)
    assert row["payload"].keys() == row["result"].keys() == {"$encrypted", "data"}
    assert row["key"] == "k2"
    assert default().progress(job_id).message == f"half of {SECRET}"
    assert [line.text for line in default().log(job_id)] == [f"charging {SECRET}"]
    with engine.broker.database.autocommit() as connection:
        (output,) = output_behind(connection, [(job_id, (0, 0))], limit=9)
    assert [chunk.text for chunk in output.chunks] == [f"piece of {SECRET}"]


def test_no_server_keeps_anything_in_clear(
    engine: Engine,
    client: testing.TestClient,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Through every door and to every end: no table, no key of Redis and no log record has the secret."""
    payload = {"card": SECRET}
    give, collapse = actor(engine, "give"), actor(engine, "collapse")
    done = goqueue.enqueue(give, payload)
    failed = goqueue.enqueue(collapse, payload)
    give.send_with_options(kwargs=payload, on_success="told")
    piped = give.message(card=SECRET) | actor(engine, "told").message(SECRET)
    piped.run()
    chain = goqueue.enqueue_chain((give, payload), (actor(engine, "add_up"), {}))
    goqueue.enqueue(actor(engine, "give"), payload, unique=goqueue.Unique(fields=("card",)))
    waiting = goqueue.enqueue(give, payload, delay_seconds=3600)
    collecting = goqueue.Unique(key="k", mode=UniqueMode.COLLECT, collect_seconds=3600)
    collected = [
        goqueue.enqueue(actor(engine, "collect"), {"cards": [SECRET]}, unique=collecting) for _ in range(3)
    ]
    job = {"queue": QUEUE, "type": "give", "payload": payload}
    first, again = [
        client.simulate_post("/jobs/create", json=job, headers={"Idempotency-Key": "once"}) for _ in range(2)
    ]
    edit = {"payload": {"card": f"{SECRET}-edited"}, "author": "somebody"}
    assert client.simulate_patch(f"/jobs/{waiting}", json=edit).status_code == 200
    nightly = {"name": "nightly", "cron": "0 2 * * *"} | job
    assert client.simulate_post("/schedules", json=nightly).json["payload"] == payload
    run = client.simulate_post("/schedules/nightly/run")
    for job_id in (done, *chain, first.json["id"], run.json["id"]):
        engine.wait_for(job_id)
    engine.wait_for(failed, JobStatus.FAILED)
    wait_until(
        lambda: engine.rows("SELECT FROM jobs WHERE type = 'told' AND status = 'completed'"), what="it"
    )

    assert again.json == first.json
    assert engine.job(chain[1]).result == [{"charged": SECRET}]
    assert len(set(collected)) == 1
    assert engine.job(collected[0]).payload == {"cards": [SECRET] * 3}
    assert engine.job(failed).error == f"ValueError: declined {SECRET}"
    assert [version.version.payload for version in default().versions(waiting)] == [payload, edit["payload"]]
    kept = all_rows(engine.broker.database)
    # Hashes by which whoever guesses a payload would know it.
    hashes = [
        sha256(said + orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()
        for said, value in ((b"", payload), (b"create\n", job))
    ]
    assert {name for name, rows in kept.items() if any(text in rows for text in (SECRET, *hashes))} == set()
    assert all(name in kept and kept[name] for name in HOLDS_CONTENTS)
    assert SECRET not in all_keys(engine.settings)
    logged = capsys.readouterr().err
    assert "ValueError: [encrypted]" in logged
    assert SECRET not in logged
    assert [record for record in caplog.records if SECRET in f"{record.getMessage()} {record.exc_text}"] == []


def test_a_plain_job_stays_plain(engine: Engine) -> None:
    """A type that does not ask for it has its payload in clear, and no key."""
    job_id = goqueue.enqueue(actor(engine, "plain"), {"card": "x"})
    assert engine.wait_for(job_id).encrypted_with is None
    assert stored(engine, job_id)["payload"] == {"card": "x"}


def row_of(engine: Engine, sql: str, **parameters: Any) -> Any:
    """The first value that a statement returns."""
    return engine.rows(sql, **parameters)[0][0]


TAMPERED = {
    "of another type": "(SELECT payload FROM jobs WHERE type = 'add_up' AND payload_key IS NOT NULL LIMIT 1)",
    "changed": 'replace(payload::text, \'"data":"\', \'"data":"AAAA\')::json',
    "of an unknown key": "replace(payload::text, 'k2', 'k9')::json",
    "without data": '\'{"$encrypted":"k2"}\'::json',
    "no base64": '\'{"$encrypted":"k2","data":"§"}\'::json',
}


@pytest.mark.parametrize("payload", TAMPERED.values(), ids=TAMPERED.keys())
def test_what_cannot_be_decrypted_fails_for_good_and_breaks_no_answer(
    engine: Engine, client: testing.TestClient, payload: str
) -> None:
    """A forged or foreign payload never reaches the handler; the job says why, and answers have a null."""
    goqueue.enqueue(actor(engine, "add_up"), {})
    job_id = goqueue.enqueue(actor(engine, "give"), {"card": SECRET}, delay_seconds=3600, max_retries=5)
    changed = f"UPDATE jobs SET payload = {payload}, available_at = now(), rank = now() WHERE id = %(id)s"
    row_of(engine, f"{changed} RETURNING id", id=job_id)
    job = engine.wait_for(job_id, JobStatus.FAILED)
    assert (job.reason, job.attempts) == ("undecryptable", 1)
    assert job.error is not None
    assert "cannot be decrypted: the key 'k" in job.error
    document = client.simulate_get(f"/jobs/{job_id}").json
    assert (document["payload"], document["undecryptable"]) == (None, ["payload"])
    assert document["encrypted_with"] in {"k2", "k9"}
    for path in ("", "/attempts", "/explain", "/versions"):
        assert client.simulate_get(f"/jobs/{job_id}{path}").status_code == 200
    assert client.simulate_get("/jobs?status=failed").status_code == 200


def test_a_result_belongs_to_its_job(engine: Engine, client: testing.TestClient) -> None:
    """The envelope of one job's result is not read as that of another, of the same type as well."""
    ids = [goqueue.enqueue(actor(engine, "give"), {"card": f"{number}-card"}) for number in range(2)]
    for job_id in ids:
        engine.wait_for(job_id)
    swapped = "UPDATE jobs SET result = (SELECT result FROM jobs WHERE id = %(other)s) WHERE id = %(id)s"
    row_of(engine, f"{swapped} RETURNING id", id=ids[0], other=ids[1])
    document = client.simulate_get(f"/jobs/{ids[0]}").json
    assert (document["result"], document["undecryptable"]) == (None, ["result"])
    assert document["payload"] == {"card": "0-card"}


def test_a_process_without_keys_answers_with_nulls(engine: Engine) -> None:
    """An API that has not got the keys shows that there is something, and that it cannot read it."""
    job_id = goqueue.enqueue(actor(engine, "give"), {"card": SECRET})
    failed = goqueue.enqueue(actor(engine, "collapse"), {"card": SECRET})
    engine.wait_for(job_id)
    engine.wait_for(failed, JobStatus.FAILED)
    with api(engine, payload_keys=None) as client:
        document = client.simulate_get(f"/jobs/{job_id}").json
        assert (document["payload"], document["result"]) == (None, None)
        assert document["undecryptable"] == ["payload", "result"]
        told = client.simulate_get(f"/jobs/{failed}").json["error"]
        assert told == "[encrypted: the key 'k2' is not among GOQUEUE_PAYLOAD_KEYS of this process]"
        for path in ("attempts", "logs", "progress", "versions", "explain"):
            assert client.simulate_get(f"/jobs/{failed}/{path}").status_code == 200
        assert client.simulate_get("/failures").status_code == 200


def test_nobody_smuggles_an_envelope_in(engine: Engine, client: testing.TestClient) -> None:
    """What looks like an envelope is refused at every door, so that nobody has one decrypted for them."""
    job_id = goqueue.enqueue(actor(engine, "give"), {"card": SECRET}, delay_seconds=3600)
    envelope = stored(engine, job_id)["payload"]
    refused = {"payload.$encrypted": "this name is GoQueue's own"}
    for type_name in ("give", "told"):
        job = {"queue": QUEUE, "type": type_name, "payload": envelope}
        answer = client.simulate_post("/jobs/create", json=job)
        assert (answer.status_code, answer.json["fields"]) == (400, refused)
    answer = client.simulate_patch(f"/jobs/{job_id}", json={"payload": envelope})
    assert (answer.status_code, answer.json["fields"]) == (400, refused)
    schedule = {"name": "smuggled", "cron": "0 2 * * *", "queue": QUEUE, "type": "give", "payload": envelope}
    assert client.simulate_post("/schedules", json=schedule).status_code == 400
    with pytest.raises(InvalidJobError):
        goqueue.enqueue(actor(engine, "give"), envelope)


def test_a_log_line_that_looks_like_an_envelope_is_not_decrypted(engine: Engine) -> None:
    """An envelope that a plain job writes somewhere is of no use to it: it is bound to what it was."""
    job_id = goqueue.enqueue(actor(engine, "give"), {"card": SECRET})
    engine.wait_for(job_id)
    envelope = row_of(engine, "SELECT result::text FROM jobs WHERE id = %(id)s", id=job_id)
    repeated = goqueue.enqueue(actor(engine, "repeat"), {"text": envelope})
    engine.wait_for(repeated)
    assert all(SECRET not in line.text for line in default().log(repeated))


def test_a_type_without_a_key_is_refused_at_its_declaration(settings: Settings) -> None:
    """Nobody believes that something is encrypted which is not."""
    without = settings.model_copy(update={"payload_keys": None})
    with GoQueue(without) as own, pytest.raises(ValueError, match=r"set GOQUEUE_PAYLOAD_KEYS"):

        @own.actor(encrypt=True)
        def hopeful(card: str) -> None: ...


def test_the_setting_encrypts_every_type_that_does_not_say_otherwise(settings: Settings) -> None:
    """GOQUEUE_ENCRYPT_PAYLOADS is the default of what a type says."""
    changed = settings.model_copy(update={"payload_keys": SecretStr(KEYS), "encrypt_payloads": True})
    with GoQueue(changed) as own:

        @own.actor
        def usual(card: str) -> None: ...

        @own.actor(encrypt=False)
        def open_to_all(card: str) -> None: ...

        assert own.broker.job_types["usual"].encrypt
        assert not own.broker.job_types["open_to_all"].encrypt


def test_a_search_passes_over_what_is_encrypted(engine: Engine, client: testing.TestClient) -> None:
    """Words and values of encrypted payloads and errors are not found, and the answer says so."""
    goqueue.enqueue(actor(engine, "give"), {"card": "in-search"}, delay_seconds=3600)
    plain = goqueue.enqueue(actor(engine, "plain"), {"card": "in-search"}, delay_seconds=3600)
    for query in ("payload=in-search", "payload=card:in-search"):
        answer = client.simulate_get(f"/jobs?{query}")
        assert [job["id"] for job in answer.json] == [plain]
        assert answer.headers["Jobs-Not-Searched"] == "encrypted"
    assert client.simulate_get("/jobs?type=give&payload=data").json == []
    failed = goqueue.enqueue(actor(engine, "collapse"), {"card": SECRET})
    engine.wait_for(failed, JobStatus.FAILED)
    assert client.simulate_get("/jobs?status=failed&error=declined").json == []
    assert client.simulate_put("/types/give", json={"indexed": ["card"]}).status_code == 400
    shown = client.simulate_get("/types/give").json
    assert (shown["encrypted"], shown["redacted"]) == (True, [])


def test_a_declared_schedule_is_what_it_was_at_the_next_start(engine: Engine) -> None:
    """Its payload has another envelope each time, and is no change all the same."""
    job = new_job(engine.broker, "give", {"card": SECRET}, queue=QUEUE)
    definition = ScheduleDefinition("declared", "0 2 * * *", job, source=Source.CODE)
    database = engine.broker.database
    first, is_new = scheduling.put(database, definition)
    assert is_new
    again, _ = scheduling.put(database, definition)
    assert again.updated_at == first.updated_at
    scheduling.delete(database, "declared")


def test_what_a_client_saves_is_encrypted(engine: Engine, client: testing.TestClient) -> None:
    """A client that runs an encrypted job itself keeps its result and its error encrypted, too."""
    job_id = goqueue.enqueue(actor(engine, "give"), {"card": SECRET}, delay_seconds=3600)
    saved = {"result": {"charged": SECRET}, "error": f"declined {SECRET}"}
    assert client.simulate_post(f"/jobs/{job_id}/save", json=saved).status_code == 204
    row = stored(engine, job_id)
    assert SECRET not in str(row)
    document = client.simulate_get(f"/jobs/{job_id}").json
    assert {name: document[name] for name in saved} == saved


def test_an_edit_without_the_key_is_a_conflict(engine: Engine) -> None:
    """An API without keys writes nothing in clear where something encrypted was."""
    job_id = goqueue.enqueue(actor(engine, "give"), {"card": SECRET}, delay_seconds=3600)
    with api(engine, payload_keys=None) as client:
        answer = client.simulate_patch(f"/jobs/{job_id}", json={"payload": {"card": "x"}})
        assert (answer.status_code, answer.json["detail"]) == (
            409,
            "GOQUEUE_PAYLOAD_KEYS is not set in this process",
        )
        page = client.simulate_get(f"/dashboard/jobs/{job_id}").text
    assert "cannot decrypt the payload of this job" in page
    assert "Create it again" not in page
    assert engine.job(job_id).payload == {"card": SECRET}


def leased(client: testing.TestClient) -> dict[str, Any]:
    """The next job of the queue that only remote workers serve."""
    jobs: list[dict[str, Any]] = []

    def found() -> bool:
        wanted = {"worker": "remote", "types": ["give"], "limit": 1}
        answer = client.simulate_post("/queues/leased/lease", json=wanted)
        jobs[:] = answer.json["jobs"] if answer.status_code == 200 else []
        return bool(jobs)

    wait_until(found, what="a job to lease")
    return jobs[0]


def test_a_leased_job_is_encrypted_as_any_other(engine: Engine, client: testing.TestClient) -> None:
    """A remote worker is given the payload in clear; what it says of the job is encrypted in the rows."""
    give = actor(engine, "give")
    forged = goqueue.enqueue(give, {"card": SECRET}, queue="leased")
    changed = f"UPDATE jobs SET payload = {TAMPERED['changed']} WHERE id = %(id)s RETURNING id"
    row_of(engine, changed, id=forged)
    done, failed = (goqueue.enqueue(give, {"card": SECRET}, queue="leased") for _ in range(2))
    for job_id, ending, said in (
        (done, "complete", {"result": {"charged": SECRET}}),
        (failed, "fail", {"error": f"declined {SECRET}", "traceback": f"at {SECRET}", "discard": True}),
    ):
        job = leased(client)
        assert (job["id"], job["payload"]) == (job_id, {"card": SECRET})
        lease = f"/leases/{job['token']}"
        progress = {"progress": 0.5, "message": SECRET}
        assert client.simulate_post(f"{lease}/progress", json=progress).status_code < 300
        assert client.simulate_post(f"{lease}/log", json={"lines": [SECRET]}).status_code < 300
        assert client.simulate_post(f"{lease}/{ending}", json=said).status_code < 300
    assert engine.job(done).result == {"charged": SECRET}
    assert SECRET in str(engine.job(failed).error)
    assert {name for name, rows in all_rows(engine.broker.database).items() if SECRET in rows} == set()
    assert engine.job(forged).reason == "undecryptable"
