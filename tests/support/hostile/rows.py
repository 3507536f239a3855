"""Rows whose text would like to be more than text, where REST takes it and where it does not."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from goqueue.db.database import Database
from goqueue.jobs import Job
from tests.support.dashboard.webhook_rows import insert_webhook
from tests.support.factories import JobFactory

__all__ = ["TEXTS", "insert_hostile_rows"]

_MIB = 1024 * 1024

#: What would set `window.__pwned`, what is wider than any screen, what turns the text around it, and emoji.
TEXTS: Mapping[str, str] = {
    "script": "<script>window.__pwned=1</script>",
    "image": '"><img src=x onerror="window.__pwned=1">',
    "attribute": "' onmouseover='window.__pwned=1' autofocus onfocus='window.__pwned=1' x='",
    "template": "{{ 7 * 7 }}{% raw %}${window.__pwned=1}javascript:window.__pwned=1",
    "long": "W" * 190,
    "turned": "\N{RIGHT-TO-LEFT OVERRIDE}moc.elpmaxe \N{ARABIC LETTER MEEM}\N{ARABIC LETTER REH}" * 4,
    "arabic": "\N{ARABIC LETTER MEEM}\N{ARABIC LETTER REH}\N{ARABIC LETTER HAH}\N{ARABIC LETTER BEH} 2/3",
    "smile": "\N{SMILING FACE WITH SUNGLASSES} /?#&%2F\\ \N{PARTY POPPER}",
    "emoji": "\N{PARTY POPPER}\N{WOMAN}\N{ZERO WIDTH JOINER}\N{PERSONAL COMPUTER} /?#&%2F\\",
}

#: The ids and names of hostile rows, by the part of an address that they follow: "jobs", "queues", ….
Places = dict[str, list[str]]


def insert_hostile_rows(database: Database) -> Places:
    """Insert rows with every text in every place; where they are seen."""
    make = JobFactory(database)
    jobs = [_failed_job(make, number, text) for number, text in enumerate(TEXTS.values())]
    jobs += _other_jobs(make)
    with database.transaction() as connection:
        for number, text in enumerate(TEXTS.values()):
            _insert(connection, "job_tags", {"tag": text, "job_id": jobs[number].id})
            _record(connection, jobs[number], text)
            _configure(connection, number, text)
            _schedule(connection, number, text)
            _operate(connection, text)
        found = connection.exec_driver_sql(
            "SELECT id FROM bulk_operations ORDER BY id DESC LIMIT 1"
        ).scalar_one()
    make.worker(hostname=TEXTS["script"], queues=list(TEXTS.values()))
    names = list(TEXTS.values())
    deliveries = [insert_webhook(database, f"hostile-{name}", text) for name, text in TEXTS.items()]
    return {
        "jobs": [str(job.id) for job in (*jobs[:2], *jobs[4:6], *jobs[len(TEXTS) :])],
        "editable": [str(jobs[0].id), str(jobs[len(TEXTS)].id)],
        "failures": [_fingerprint(number) for number in (0, 4, 5)],
        "operations": [str(found)],
        "queues": names,
        "types": names,
        "namespaces": [],
        "schedules": names,
        "webhooks": [f"hostile-{name}" for name in TEXTS],
        "deliveries": deliveries[0],
    }


def _failed_job(make: JobFactory, number: int, text: str) -> Job:
    return make(
        "failed",
        queue=text,
        type=text,
        payload={text: [text, {"nested": text}], "number": number},
        error=f"ValueError: {text}",
        reason="failed",
        attempts=1,
        fence=1,
        tags=[text],
        concurrency_key=text,
        unique_key=text,
        fingerprint=_fingerprint(number),
    )


def _other_jobs(make: JobFactory) -> list[Job]:
    script, long = TEXTS["script"], TEXTS["long"]
    return [
        make(queue=script, type=long, payload=script, priority=5),
        make(
            "completed",
            queue="mail",
            type=script,
            attempts=1,
            fence=1,
            payload={"blob": long + "x" * _MIB, "rows": [script] * 5_000},
            result=orjson.dumps({"blob": script * (_MIB // len(script))}).decode(),
        ),
        make("running", queue=long, type=script, payload=[script, long]),
        make("blocked", queue=script, type=script),
        make("cancelled", queue=script, type=script, reason="cancelled", error="e" * 20_000),
    ]


def _record(connection: Any, job: Job, text: str) -> None:
    """What its attempt said, and what it was before."""
    began = datetime.now(UTC) - timedelta(seconds=3)
    frame = f'  File "{text}", line 1, in {text}\n    {text}\n'
    traceback = f"Traceback (most recent call last):\n{frame}{text}: {text}\n"
    _insert(
        connection,
        "attempts",
        {
            "job_id": job.id,
            "fence": 1,
            "attempt": 1,
            "outcome": "failed",
            "error": f"ValueError: {text}",
            "traceback": traceback,
            "started_at": began,
            "run_seconds": 3.0,
        },
    )
    _insert(connection, "attempt_progress", {"job_id": job.id, "fence": 1, "progress": 0.5, "message": text})
    line = {"job_id": job.id, "fence": 1, "line": 1, "text": text, "logged_at": began}
    _insert(connection, "attempt_logs", line)
    version = {
        "job_id": job.id,
        "version": 1,
        "payload": orjson.dumps({text: text}).decode(),
        "priority": 0,
        "available_at": began,
        "replaced_by": text,
    }
    _insert(connection, "job_versions", version)


def _configure(connection: Any, number: int, text: str) -> None:
    """Its queue is paused for a reason, and its type's breaker has opened for one."""
    connection.exec_driver_sql(
        "UPDATE queues SET paused_at = now(), paused_by = %(t)s, pause_reason = %(t)s WHERE name = %(t)s",
        {"t": text},
    )
    _insert(connection, "queue_keys", {"queue": text, "key": text, "weight": 2})
    breaker = {
        "failure_rate": 0.5,
        "minimum": 10,
        "window_seconds": 60,
        "cooldown_seconds": 86_400,
        "probes": 3,
    }
    _insert(
        connection,
        "types",
        {
            "name": text,
            "breaker": orjson.dumps(breaker).decode(),
            "breaker_state": "open",
            "breaker_changed_at": datetime.now(UTC),
            "breaker_reason": text,
        },
    )
    kind = {
        "fingerprint": _fingerprint(number),
        "type": text,
        "exception": text,
        "message": text,
        "frame": text,
    }
    _insert(connection, "failure_kinds", kind)


def _schedule(connection: Any, number: int, text: str) -> None:
    paused = number % 2 == 0
    due = datetime.now(UTC) + timedelta(days=10)
    _insert(
        connection,
        "schedules",
        {
            "name": text,
            "cron": "0 6 * * *",
            "queue": text,
            "type": text,
            "payload": orjson.dumps({text: text}).decode(),
            "paused_at": datetime.now(UTC) if paused else None,
            "paused_by": text if paused else None,
            "pause_reason": text if paused else None,
            "next_at": None if paused else due,
            "due_at": None if paused else due,
        },
    )


def _operate(connection: Any, text: str) -> None:
    _insert(
        connection,
        "bulk_operations",
        {
            "action": "retry",
            "filter": orjson.dumps({"queue": text, "type": text}).decode(),
            "state": "stopped",
            "reason": text,
            "total": 3,
            "done": 1,
            "up_to_id": 1,
            "requested_by": text,
            "finished_at": datetime.now(UTC),
        },
    )


def _fingerprint(number: int) -> str:
    return f"{0xBAD0 + number:016x}"


def _insert(connection: Any, table: str, values: dict[str, Any]) -> None:
    names = ", ".join(values)
    places = ", ".join(f"%({name})s" for name in values)
    connection.exec_driver_sql(f"INSERT INTO {table} ({names}) VALUES ({places})", values)
