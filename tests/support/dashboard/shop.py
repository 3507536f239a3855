"""A web shop's GoQueue of real processes, with a history, and jobs that keep coming."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import httpx

from tests.support.processes.stack import Stack
from tests.support.waiting import wait_until

__all__ = ["Shop", "open_shop"]

ACTORS = "tests.support.jobs.shop_jobs"

#: A day of completed jobs, at some hours more of them, and now and then a failed one. Chance is a hash of the
#: number: every shop has the same history.
HISTORY = """
    WITH kinds (place, queue, type, base, payload, fingerprint, exception, message) AS (
        VALUES (0, 'mail', 'send_receipt', 0.04, '{"order":%%1$s,"to":"customer-%%1$s@example.com"}',
                '5a0e000000000001', 'smtplib.SMTPRecipientsRefused', 'no such mailbox'),
               (1, 'payments', 'charge_card', 0.09, '{"order":%%1$s,"amount":19.5}',
                '5a0e000000000002', 'ConnectionResetError', 'the bank closed the connection'),
               (2, 'images', 'resize_image', 0.6, '{"path":"products/%%1$s.jpg","width":800}',
                '5a0e000000000003', 'OSError', 'the image is cut off'),
               (3, 'stock', 'sync_stock', 0.15, '{"shop":"Berlin"}',
                '5a0e000000000004', 'TimeoutError', 'the shop did not answer within 10 s')
    ),
    known AS (
        INSERT INTO failure_kinds (fingerprint, type, exception, message, frame)
        SELECT fingerprint, type, exception, message, 'shop.' || queue || '.' || type FROM kinds
    ),
    made AS (
        INSERT INTO jobs (queue, type, status, payload, attempts, max_retries, fence, created_at,
                          available_at, started_at, updated_at, finished_at, result, error, reason,
                          fingerprint)
        SELECT queue, type, status, payload::json, 1, 0, 1, ends - (run + wait), ends - (run + wait),
               ends - run, ends, ends, CASE status WHEN 'completed' THEN payload::json END,
               CASE status WHEN 'failed' THEN exception || ': ' || message END,
               CASE status WHEN 'failed' THEN 'failed' END, CASE status WHEN 'failed' THEN fingerprint END
        FROM (
            SELECT queue, type, format(payload, number) AS payload, exception, message, fingerprint,
                   CASE WHEN chance > 0.98 THEN 'failed' ELSE 'completed' END AS status,
                   now() - make_interval(secs => 30 + 87000 * (part - 0.04 * sin(part * 4 * pi()))) AS ends,
                   make_interval(secs => base * (0.6 + luck * luck)
                                         * CASE WHEN chance < 0.17 THEN 12 ELSE 1 END) AS run,
                   make_interval(secs => 0.004 + luck / 4) AS wait
            FROM (
                SELECT number, number / %(jobs)s::float AS part, (hashint4(number) & 1023) / 1024.0 AS chance,
                       (hashint4(-number) & 1023) / 1024.0 AS luck, (hashint4(number) >> 10) & 7 AS turn
                FROM generate_series(1, %(jobs)s) number
            ) AS numbers
            JOIN kinds ON place = CASE WHEN turn < 4 THEN 0 WHEN turn < 6 THEN 1 ELSE turn - 4 END
        ) AS found
        ORDER BY ends
        RETURNING id, status, started_at, finished_at, error
    )
    INSERT INTO attempts (job_id, fence, attempt, outcome, error, started_at, finished_at, run_seconds)
    SELECT id, 1, 1, status, error, started_at, finished_at, extract(epoch FROM finished_at - started_at)
    FROM made
"""

#: The last two hours of the schedule that fires every five minutes.
TICKS = """
    INSERT INTO schedule_ticks (schedule_id, nominal_at, outcome, job_id, decided_at)
    SELECT schedules.id, tick, CASE WHEN back = 9 THEN 'overlapped' ELSE 'fired' END,
           CASE WHEN back <> 9 THEN job.id END, tick
    FROM schedules, generate_series(1, 23) AS back,
         LATERAL (SELECT date_bin('5 min', now(), '2000-01-01') - back * interval '5 min' AS tick) AS ticks,
         LATERAL (SELECT id FROM jobs WHERE type = 'sync_stock' AND finished_at < tick
                  ORDER BY finished_at DESC LIMIT 1) AS job
    WHERE name = 'stock-berlin'
    ON CONFLICT DO NOTHING
"""

SCHEDULES: tuple[dict[str, Any], ...] = (
    {"name": "stock-berlin", "cron": "*/5 * * * *", "queue": "stock", "payload": {"shop": "Berlin"}},
    {
        "name": "sales-report",
        "cron": "30 6 * * mon-fri",
        "timezone": "Europe/Berlin",
        "queue": "reports",
        "payload": {"name": "sales", "seconds": 20},
        "overlap": "skip",
    },
    {
        "name": "newsletter",
        "cron": "0 9 1 * *",
        "queue": "mail",
        "payload": {"order": 1, "to": "all@example.com"},
    },
)

#: Who may use it, beside everybody.
KEYS: tuple[dict[str, Any], ...] = (
    {"name": "web shop", "scopes": ["client"], "queues": ["mail", "payments"]},
    {"name": "grafana", "scopes": ["metrics"], "expires_in_seconds": 90 * 86_400},
    {"name": "ada", "scopes": ["operator"]},
)

SETTINGS: dict[str, dict[str, Any]] = {
    "/queues/images": {"concurrency": 2, "slo_wait_seconds": 30},
    "/queues/stock": {"rate": {"limit": 60, "period_seconds": 60}, "fair": True},
    "/types/charge_card": {"breaker": {"failure_rate": 0.9, "minimum": 50}},
}

#: How often the shop sells something.
SALE_SECONDS = 1.0


class Shop:
    """The processes of a shop, and what a test does to them.

    Attributes:
        url: the root of the API; the dashboard is at `{url}/dashboard`.
        stack: the processes, and `rows(sql)`.
        database: for whoever makes states that REST refuses.
    """

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.url = stack.api_url
        self.database = stack.database
        self._client = httpx.Client(base_url=self.url, trust_env=False, timeout=10)

    def close(self) -> None:
        """Close the connections of the shop."""
        self._client.close()

    def create(self, queue: str, payload: Any, **members: Any) -> int:
        """Create a job by REST; its id."""
        answer = self.request("POST", "/jobs/create", {"queue": queue, "payload": payload} | members)
        return int(answer["id"])

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request to REST and return its answer."""
        answer = self._client.request(method, path, json=body)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def wait_for(self, job_id: int, status: str, timeout_seconds: float = 20) -> None:
        """Wait until a job has this state."""
        sql = "SELECT status FROM jobs WHERE id = %s"
        wait_until(
            lambda: self.stack.rows(sql, (job_id,)) == [(status,)],
            timeout_seconds,
            f"{job_id} to be {status}",
        )

    def sell(self, order: int) -> None:
        """Create the jobs that an order causes."""
        jobs = [
            {"queue": "payments", "payload": {"order": order, "amount": 9.5 + order % 40}, "tags": ["web"]},
            {
                "queue": "mail",
                "payload": {"order": order, "to": f"customer-{order}@example.com"},
                "tags": ["web", f"country-{('de', 'fr', 'pl')[order % 3]}"],
            },
        ]
        if order % 4 == 0:
            kind = "heic" if order % 12 == 0 else "jpg"
            payload = {"path": f"products/{order}.{kind}", "width": 800}
            jobs.append({"queue": "images", "payload": payload, "concurrency_key": f"shop-{order % 3}"})
        self.request("POST", "/jobs/batch", {"jobs": jobs})


@contextmanager
def open_shop(folder: Path, *, history: int = 4_000, **settings: Any) -> Iterator[Shop]:
    """Run the shop in this folder: so many jobs behind it, every kind in it, and others coming."""
    with Stack(folder, actors=(ACTORS,), heartbeat_seconds=1.0, **settings) as stack:
        stack.rows(HISTORY + " RETURNING job_id", {"jobs": history})
        stack.api()
        stack.scheduler()
        stack.workers(2, threads=6)
        shop = Shop(stack)
        _furnish(shop)
        ended = threading.Event()
        sales = threading.Thread(target=_sell, args=(shop, ended), name="sales", daemon=True)
        sales.start()
        try:
            yield shop
        finally:
            ended.set()
            sales.join(20)
            shop.close()


def _furnish(shop: Shop) -> None:
    for path, settings in SETTINGS.items():
        shop.request("PUT", path, settings)
    for schedule in SCHEDULES:
        shop.request("POST", "/schedules", schedule)
    for key in KEYS:
        shop.request("POST", "/keys", key)
    shop.stack.rows(TICKS + " RETURNING job_id")
    report = shop.create("reports", {"name": "yearly", "seconds": 600}, tags=["finance"])
    shop.create("pages", {"title": "Annual report"}, depends_on=[report])
    shop.create("mail", {"order": 3, "to": "ada@example.com"}, delay_seconds=7200, priority=10)
    for order in range(1, 30):
        shop.sell(order)
    late = shop.create("mail", {"order": 8, "to": "eve@example.com"}, delay_seconds=3600)
    shop.request("POST", f"/jobs/{late}/cancel")
    shop.request("POST", "/queues/stock/pause", {"reason": "stocktaking until noon", "author": "ada"})
    for city in ("Berlin", "Lyon", "Gdańsk"):
        shop.create("stock", {"shop": city}, concurrency_key=city)


def _sell(shop: Shop, ended: threading.Event) -> None:
    for order in count(30):
        if ended.wait(SALE_SECONDS):
            return
        # The API may be away for a moment: a test restarts it.
        with suppress(httpx.HTTPError, AssertionError):
            shop.sell(order)
