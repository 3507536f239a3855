"""Rotation of payload keys: what the old one encrypted is encrypted anew, and nothing of it is left."""

from __future__ import annotations

import argparse
import re
from base64 import b64encode
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

import goqueue
from goqueue.audit import audit_rows as audit
from goqueue.audit.audit_rows import AuditFilter
from goqueue.config.settings import Settings
from goqueue.contents.contents import of_schedule
from goqueue.db.database import Database
from goqueue.dev.embedded import EmbeddedPostgres, EmbeddedValkey
from goqueue.engine import job_rows as job_store
from goqueue.errors import ConfigurationError
from goqueue.instance import GoQueue, default
from goqueue.jobs import JobStatus
from goqueue.ops.payload_keys_command import run
from goqueue.scheduler.reencrypter import Reencrypter
from tests.support.database.everything import all_rows
from tests.support.engine import Engine, running_engine
from tests.support.jobs.confidential_jobs import KEYS, QUEUE, SECRET, declare

#: Tables that have envelopes.
HOLDERS = [
    "attempt_logs",
    "attempt_progress",
    "attempts",
    "job_output",
    "job_versions",
    "jobs",
    "schedules",
]
ROTATED = f"k3:{b64encode(b'3' * 32).decode()},{KEYS}"


@pytest.fixture(scope="module")
def engine(postgres: EmbeddedPostgres, valkey: EmbeddedValkey) -> Iterator[Engine]:
    """An engine that all tests of this module share; its processes have the old first key."""
    with running_engine(postgres, valkey, "payload_keys", declare, payload_keys=KEYS) as engine:
        yield engine


@pytest.fixture
def rotated(engine: Engine) -> Settings:
    """The settings of processes that were started with another first key."""
    return engine.settings.model_copy(update={"payload_keys": SecretStr(ROTATED)})


def reencrypt(settings: Settings) -> int:
    """Let a scheduler of these settings work until it has nothing more to do; how much it did."""
    database = Database(settings)
    reencrypter = Reencrypter(settings, database, bool)
    done = 0
    while True:
        counts = reencrypter.run_once()
        done += counts["done"]
        if not counts["looked_at"]:
            database.close()
            return done


def command(settings: Settings, action: str, rate: float | None = None) -> str:
    """What `goqueue payload-keys` prints."""
    return run(settings, argparse.Namespace(action=action, rate=rate))


def uses(settings: Settings) -> dict[str, list[str]]:
    """Key → what a process of these settings does with it, and how many jobs and schedules it encrypts."""
    lines = [line.split() for line in command(settings, "list").splitlines() if not line.startswith("order")]
    return {line[0]: line[1:] for line in lines[1:]}


def test_a_rotation_leaves_nothing_of_the_old_key(engine: Engine, rotated: Settings) -> None:
    """Everything is encrypted anew by order, says the same as before, and is read without the old keys."""
    give = engine.broker.actors["give"]
    done = goqueue.enqueue(give, {"card": SECRET})
    failed = goqueue.enqueue(engine.broker.actors["collapse"], {"card": SECRET})
    waiting = goqueue.enqueue(give, {"card": SECRET}, delay_seconds=3600)
    default().edit(waiting, payload={"card": "edited"})
    piped = (give.message(card=SECRET) | engine.broker.actors["told"].message(SECRET)).messages[0]
    engine.broker.enqueue(piped, delay=3_600_000)
    with default().broker.database.autocommit() as connection:
        connection.exec_driver_sql(
            "INSERT INTO schedules (name, cron, queue, type, payload) "
            "VALUES ('old', '* * * * *', %s, 'give', %s)",
            (QUEUE, closed_schedule(engine, "old")),
        )
    engine.wait_for(done)
    engine.wait_for(failed, JobStatus.FAILED)
    before = [(job.payload, job.result, job.error) for job in map(engine.job, (done, failed, waiting))]
    assert uses(rotated) == {
        "k3": ["encrypts", "0", "0"],
        "k2": ["decrypts", "4", "1"],
        "k1": ["decrypts", "0", "0"],
    }

    old = re.compile(r"encrypted\W+k2\W")
    holders = [name for name, rows in all_rows(engine.broker.database).items() if old.search(rows)]
    assert holders == HOLDERS
    command(rotated, "reencrypt")
    assert reencrypt(rotated) == 5
    assert uses(rotated) == {
        "k3": ["encrypts", "4", "1"],
        "k2": ["decrypts", "0", "0"],
        "k1": ["decrypts", "0", "0"],
    }
    assert [name for name, rows in all_rows(engine.broker.database).items() if old.search(rows)] == []
    alone = engine.settings.model_copy(update={"payload_keys": SecretStr(ROTATED.partition(",")[0])})
    with GoQueue(alone) as reader:
        with reader.database.autocommit() as connection:
            jobs = [job_store.get(connection, job_id) for job_id in (done, failed, waiting)]
        assert [(job.payload, job.result, job.error) for job in jobs] == before
        assert [line.text for line in reader.log(done)] == [f"charging {SECRET}"]
        assert reader.progress(done).message == f"half of {SECRET}"
        payloads = [version.version.payload for version in reader.versions(waiting)]
        assert payloads == [{"card": SECRET}, {"card": "edited"}]
    assert "completed, 5 encrypted anew" in command(rotated, "list")


def test_a_rotation_goes_on_where_it_was_cut_off(engine: Engine, rotated: Settings) -> None:
    """How far an order has come is a row: another scheduler goes on behind it, at the rate of the order."""
    ids = [
        goqueue.enqueue(engine.broker.actors["give"], {"card": SECRET}, delay_seconds=3600) for _ in range(25)
    ]
    command(rotated, "reencrypt", rate=50.0)
    waits: list[float] = []
    database = Database(rotated)
    first = Reencrypter(rotated, database, waits.append)
    counts = first.run_once()
    first.pause(counts)
    database.close()
    assert waits == [counts["done"] / 50.0]
    assert "up to job " in command(rotated, "list")
    reencrypt(rotated)
    with GoQueue(rotated) as reader, reader.database.autocommit() as connection:
        assert {job.encrypted_with for job in job_store.get_many(connection, ids)} == {"k3"}


def test_a_scheduler_with_other_keys_leaves_everything_as_it_is(engine: Engine, rotated: Settings) -> None:
    """An order for a key that the scheduler does not encrypt with waits, and says why; it can be stopped."""
    goqueue.enqueue(engine.broker.actors["give"], {"card": SECRET}, delay_seconds=3600)
    command(rotated, "reencrypt")
    assert reencrypt(engine.settings) == 0
    assert "'k3' is not the first of GOQUEUE_PAYLOAD_KEYS" in command(rotated, "list")
    assert command(rotated, "stop") == "stopped: what was encrypted anew stays so"
    assert command(rotated, "stop") == "nothing was under way"
    with engine.broker.database.autocommit() as connection:
        noted = {entry.action for entry in audit.page(connection, AuditFilter(), limit=50)}
    assert {"payload_keys.reencrypt", "payload_keys.stop"} <= noted


def test_without_keys_nothing_is_ordered(engine: Engine) -> None:
    """Who has no keys is told so, and sees the numbers all the same."""
    without = engine.settings.model_copy(update={"payload_keys": None})
    with pytest.raises(ConfigurationError, match="expected the keys"):
        command(without, "reencrypt")
    assert all(use[0] == "-" for use in uses(without).values())


def closed_schedule(engine: Engine, name: str) -> str:
    """The envelope of the payload of a schedule."""
    return engine.broker.database.contents.closed(f'{{"card":"{SECRET}"}}', of_schedule(name))
