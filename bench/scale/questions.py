"""What is asked of both databases: every list with its filters, counts, dry runs, and the pages."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from hashlib import md5
from typing import Any
from urllib.parse import urlencode

import psycopg

from bench import dashboard_rows as rows
from bench.dashboard_pages import OF_A_JOB, STATUSES, Request, pages
from bench.scale.rows import DAYS, RARE

#: Of each list, as much as both databases have.
LIMIT = 50

KIND = md5(b"kind 0", usedforsecurity=False).hexdigest()[:16]


def questions(sql: psycopg.Connection[Any]) -> list[Request]:
    """Everything that is asked, in the order of the report."""
    return [*_lists(), *_single_jobs(sql), *_counts(), *_dry_runs(), *pages(sql)]


def _filters() -> list[dict[str, str]]:
    """Every filter alone, and each pair that somebody may ask for."""
    half, quarter = (
        f"{datetime.now(UTC) - timedelta(days=DAYS * part):%Y-%m-%dT%H:%M:%SZ}" for part in (0.5, 0.25)
    )
    queue, kind, tag = {"queue": rows.QUEUE}, {"type": rows.TYPE}, {"tag": rows.TAG}
    rare_queue, rare_type = {"queue": RARE}, {"type": RARE}
    states = [{"status": status} for status in STATUSES]
    failed = {"status": "failed"}
    common, absent = ({"error": text} for text in (rows.COMMON_ERROR, rows.ABSENT_ERROR))
    payload, nowhere = ({"payload": text.removeprefix("payload.")} for text in (rows.COMMON, rows.ABSENT))
    after, before = {"created_after": half}, {"created_before": half}
    return [
        queue, rare_queue, kind, rare_type, *states, tag, after, before,
        {"created_after": half, "created_before": quarter}, {"fingerprint": KIND},
        common, absent, payload, nowhere,
        *(queue | state for state in states), *(kind | state for state in states),
        *(rare_queue | state for state in (failed, {"status": "completed"})),
        *(tag | other for other in (queue, rare_queue, kind, rare_type, failed, before, common)),
        *(queue | other for other in (kind, rare_type, before, {"fingerprint": KIND})),
        *(queue | other for other in (common, absent, payload)),
        *(kind | other for other in (rare_queue, before, payload, nowhere)),
        *(failed | other for other in (before, common, absent, payload, nowhere)),
        {"status": "completed"} | before,
    ]  # fmt: skip


def _lists() -> list[Request]:
    return [
        Request(f"GET /jobs?{'&'.join(_said(wanted))}", f"/jobs?{urlencode(wanted | {'limit': LIMIT})}")
        for wanted in _filters()
    ]


def _said(wanted: dict[str, str]) -> list[str]:
    """A filter as the report names it: values only where they matter."""
    shown = {"status", *(name for name, value in wanted.items() if value == RARE)}
    marks = {rows.ABSENT_ERROR: " (absent)", rows.ABSENT.removeprefix("payload."): " (absent)"}
    return [
        f"{name}={value}" if name in shown else f"{name}{marks.get(value, '')}"
        for name, value in wanted.items()
    ]


def _single_jobs(sql: psycopg.Connection[Any]) -> list[Request]:
    newest = {status: rows.newest_of(sql, status) for status in OF_A_JOB}
    parts = ("", "/attempts", "/dependencies", "/explain")
    return [
        Request(f"GET /jobs/{{id}}{part} of a {status} one", f"/jobs/{job_id}{part}")
        for part in parts
        for status, job_id in newest.items()
    ]


def _counts() -> list[Request]:
    one = f"/queues/{rows.QUEUE}"
    paths = [
        "/stats", "/metrics", "/queues", one, f"{one}/keys", f"{one}/blocked-keys", f"{one}/autoscale",
        "/types", f"/types/{rows.TYPE}", "/failures", "/failures?order=count",
        f"/failures?queue={rows.QUEUE}",
        f"/failures?type={rows.TYPE}", f"/failures/{KIND}", "/workers", "/schedules", "/bulk-operations",
    ]  # fmt: skip
    return [Request(f"GET {path.replace(KIND, '{fingerprint}')}", path) for path in paths]


def _dry_runs() -> list[Request]:
    asked: list[tuple[str, dict[str, str]]] = [
        ("retry", {"queue": rows.QUEUE}),
        ("retry", {"fingerprint": KIND}),
        ("retry", {"type": rows.TYPE}),
        ("cancel", {"queue": rows.QUEUE}),
        ("set_priority", {"type": rows.TYPE}),
        ("delete", {"queue": rows.QUEUE, "status": "completed"}),
        ("delete", {"tag": rows.TAG, "status": "completed"}),
    ]
    by_api = [
        Request(
            f"dry run: {action} by {', '.join(wanted)}",
            "/bulk-operations",
            body=json.dumps(
                {"action": action, "filter": wanted, "dry_run": True}
                | ({"arguments": {"priority": 1}} if action == "set_priority" else {})
            ).encode(),
        )
        for action, wanted in asked
    ]
    by_page = urlencode({"action": "retry", "status": "failed", "queue": rows.QUEUE})
    return [*by_api, Request("page: a dry run", f"/dashboard/operations/new?{by_page}")]
