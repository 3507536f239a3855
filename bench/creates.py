"""How long a create takes beside others, and how fast many are created in one call."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from typing import TYPE_CHECKING

from bench import enqueue
from bench.http_load import load_seconds, request
from bench.report import Row
from bench.stack import Stack
from bench.statistics import median, percentile

if TYPE_CHECKING:
    from bench.size import Size

CLIENTS = (1, 8, 32)
PERCENTILES = (50, 99)
APPLICATIONS = ("goqueue.wsgi:app", "bench.bare_api:app")


def create_seconds(stack: Stack, size: Size) -> list[Row]:
    """Time answers to creates, of one client and of many at once, and those of a bare endpoint in turn."""
    enqueue.prepare_bare(stack)
    stack.clear()
    message = request("/jobs/create", json.dumps(enqueue.CREATE).encode())
    measured = defaultdict[tuple[str, int, int], list[float]](list)
    goqueue, bare = APPLICATIONS
    with enqueue.serving(*stack.web(goqueue)) as port, enqueue.serving(*stack.web(bare)) as bare_port:
        for _ in range(size.rounds + 1):
            for clients in CLIENTS:
                for name, its_port in ((goqueue, port), (bare, bare_port)):
                    requests = max(clients, size.samples) * 5
                    seconds = load_seconds(its_port, message, connections=clients, requests=requests)
                    for percent in PERCENTILES:
                        measured[name, clients, percent].append(percentile(seconds, percent) * 1000)
    return [
        Row(
            f"create_p{percent}_{clients}",
            f"POST /jobs/create, {clients} client{'s' if clients > 1 else ''} at once, p{percent}",
            "ms",
            # The first round warmed both up.
            median(measured[goqueue, clients, percent][1:]),
            median(measured[bare, clients, percent][1:]),
            "Falcon + INSERT",
        )
        for clients in CLIENTS
        for percent in PERCENTILES
    ]


def bulk_call(stack: Stack, size: Size) -> list[Row]:
    """Create many jobs by one call of the library."""
    import goqueue  # noqa: PLC0415  (its modules read the environment that the stack has set)
    import goqueue.actors  # noqa: PLC0415
    from bench.goqueue_jobs import noop  # noqa: PLC0415

    rates = []
    for _ in range(3 * size.rounds):
        stack.clear()
        payloads: list[dict[str, object]] = [{}] * size.batch
        started = time.perf_counter()
        goqueue.enqueue_many(noop, payloads)
        rates.append(size.batch / (time.perf_counter() - started))
    title = f"goqueue.enqueue_many of {size.batch:,}"
    return [Row("bulk", title, "jobs/s", median(rates), target=80_000)]
