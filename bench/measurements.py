"""The measurements, each a function from a stack and a size to rows of the table."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence

from bench import enqueue, horizon, limits
from bench.async_jobs import async_rows
from bench.child_processes import child_rows
from bench.creates import bulk_call, create_seconds
from bench.dashboard_creates import creates_beside
from bench.dashboard_pages import FEW, page_times
from bench.dashboard_visitors import ALONE, COUNT, DASHBOARDS, TRIVIAL, TRIVIAL_PATH
from bench.drain_rows import batch_drain, job_kinds, nap_drain, noop_drain
from bench.events import event_rows
from bench.held_up import LONG_SECONDS, SHORT_JOBS, longest_waits
from bench.http_load import Client, request
from bench.leases import leases
from bench.namespaces import namespaces
from bench.pickup import pickup
from bench.processes import Memory, memory
from bench.report import Row
from bench.size import Size
from bench.slow_clients import COUNT as COUNT_OF_SLOW
from bench.slow_clients import create_seconds as seconds_beside_slow
from bench.stack import PROCESSES, THREADS, Stack
from bench.statistics import median, percentile
from bench.systems import BareDramatiq, GoQueue, System

SETTLE_SECONDS = 3.0
BOOT_TRIES = 20
#: Of a process at rest, from one look to the next.
RESTING_MIB = 0.25


Measurement = Callable[[Stack, Size], list[Row]]


def pickup_latency(stack: Stack, size: Size) -> list[Row]:
    """From the answer to the start of the handler, on idle workers."""
    after_post, after_enqueue, after_send = [], [], []
    for _ in range(size.rounds):
        stack.clear()
        with GoQueue(stack).running(), enqueue.serving(*stack.web("goqueue.wsgi:app")) as port:
            time.sleep(SETTLE_SECONDS)
            with Client(port) as client:
                after_post.append(pickup(stack, lambda n: _post_stamp(client, n), samples=size.samples))
            after_enqueue.append(_library_pickup(stack, GoQueue(stack), size))
        with BareDramatiq(stack).running():
            time.sleep(SETTLE_SECONDS)
            after_send.append(_library_pickup(stack, BareDramatiq(stack), size))
    rows = []
    for place, name, target in ((0, "p50", 1.0), (1, "p99", 3.0)):
        post, call, send = (
            median([one[place] for one in all_]) for all_ in (after_post, after_enqueue, after_send)
        )
        title = f"idle pickup {name}, after the answer to the POST"
        rows.append(Row(f"pickup_post_{name}", title, "ms", post, target=target, at_most=True))
        title = f"idle pickup {name}, after the library call"
        rows.append(Row(f"pickup_call_{name}", title, "ms", call, send, "Dramatiq send()"))
    return rows


def held_up(stack: Stack, size: Size) -> list[Row]:
    """How long short jobs wait behind long ones that one process claimed together with them."""
    longest = max(longest_waits(stack, trials=2 * size.rounds)) * 1000
    title = f"{SHORT_JOBS} no-op jobs created behind {THREADS} of {LONG_SECONDS:.0f} s: the last starts after"
    # 50 ms from its claim, and the create, the push and the claim of all of them.
    return [Row("held_up", title, "ms", longest, target=100.0, at_most=True)]


def create_endpoint(stack: Stack, size: Size) -> list[Row]:
    """Creating over HTTP."""
    enqueue.prepare_bare(stack)
    mine, bare, batches = [], [], []
    for _ in range(size.rounds):
        stack.clear()
        with enqueue.serving(*stack.web("goqueue.wsgi:app")) as port:
            mine.append(enqueue.create_requests(port, size.calls))
            batches += [enqueue.batch_creates(port, size.batch) for _ in range(3)]
        with enqueue.serving(*stack.web("bench.bare_api:app")) as port:
            bare.append(enqueue.create_requests(port, size.calls))
    one = Row(
        "create", "POST /jobs/create", "req/s", median(mine), median(bare), "Falcon + INSERT", "ratio", 0.9
    )
    title = f"POST /jobs/batch of {size.batch:,}"
    return [one, Row("batch", title, "jobs/s", median(batches), target=40_000)]


def slow_clients(stack: Stack, size: Size) -> list[Row]:
    """Creating over HTTP while a thousand clients take their time."""
    stack.clear()
    alone, beside = seconds_beside_slow(stack, size.samples, size.rounds)
    slow, quick = (percentile(seconds, 95) * 1000 for seconds in (beside, alone))
    title = f"POST /jobs/create beside {COUNT_OF_SLOW:,} slow clients, p95"
    return [Row("create_beside_slow", title, "ms", slow, quick, "beside none", "ratio", 1.5, at_most=True)]


def enqueue_call(stack: Stack, size: Size) -> list[Row]:
    """Creating by the library, one by one and many at a time."""
    enqueue.prepare_bare(stack)
    mine, bare, sends, bulk = [], [], [], []
    for _ in range(size.rounds):
        mine.append(enqueue.goqueue_enqueues(stack, size.calls))
        bare.append(enqueue.bare_inserts(stack, size.calls))
        sends.append(enqueue.dramatiq_sends(stack, size.calls))
        bulk += [enqueue.goqueue_bulk(stack, size.batch) for _ in range(3)]
    ours = median(mine)
    return [
        Row(
            "enqueue",
            "goqueue.enqueue, one by one",
            "jobs/s",
            ours,
            median(bare),
            "bare INSERT",
            "ratio",
            0.8,
        ),
        Row("enqueue_send", "goqueue.enqueue, one by one", "jobs/s", ours, median(sends), "Dramatiq send()"),
        Row(
            "enqueue_bulk",
            f"{size.batch:,} jobs in one call of Python",
            "jobs/s",
            median(bulk),
            target=80_000,
        ),
    ]


def idle_memory(stack: Stack, size: Size) -> list[Row]:  # noqa: ARG001  (every measurement's signature)
    """What an idle worker process occupies."""
    stack.clear()
    mine, bare = _idle_worker(GoQueue(stack)), _idle_worker(BareDramatiq(stack))
    title = "idle worker process, its own memory"
    shared = "idle worker process, with its share of shared memory"
    return [
        Row("memory_uss", title, "MiB", mine.uss, bare.uss, "Dramatiq", target=60, at_most=True),
        Row("memory_pss", shared, "MiB", mine.pss, bare.pss, "Dramatiq"),
        Row("memory_rss", "  with all of the shared memory", "MiB", mine.rss, bare.rss, "Dramatiq"),
    ]


def async_jobs(stack: Stack, size: Size) -> list[Row]:
    """Async jobs of one process: how many wait at once, how fast no-ops are, and what a waiting one costs."""
    return async_rows(stack, rounds=size.rounds, noops=size.drain_jobs)


def events(stack: Stack, size: Size) -> list[Row]:
    """What those who listen to events cost the others."""
    return event_rows(stack, size)


def child_processes(stack: Stack, size: Size) -> list[Row]:
    """Jobs of handlers in child processes, beside the same on threads."""
    return child_rows(stack, rounds=size.rounds, jobs=size.drain_jobs // 4)


def limited_drain(stack: Stack, size: Size) -> list[Row]:
    """Create and drain jobs of a thousand keys, with a limit a key and without."""
    limited, free = [], []
    for _ in range(size.rounds):
        limited.append(limits.keyed_throughput(stack, size.drain_jobs, limited=True))
        free.append(limits.keyed_throughput(stack, size.drain_jobs, limited=False))
    title = f"create and drain {size.drain_jobs:,} jobs of 1,000 keys, two slots a key"
    return [Row("limited", title, "jobs/s", median(limited), median(free), "without limits", "ratio", 0.5)]


def admission(stack: Stack, size: Size) -> list[Row]:
    """What the dispatcher's rounds of admission cost."""
    rates = [limits.admission_rate(stack, size.backlog) for _ in range(size.rounds)]
    rounds = limits.round_seconds(stack, size.keys)
    title = f"a round of admission with {size.keys:,} waiting keys"
    return [
        Row(
            "admission",
            f"admission from a backlog of {size.backlog:,}",
            "jobs/s",
            median(rates),
            target=15_000,
        ),
        Row("round_median", f"{title}, median", "ms", median(rounds) * 1000, target=50, at_most=True),
        Row("round_p99", f"{title}, p99", "ms", percentile(rounds, 99) * 1000, target=50, at_most=True),
    ]


def held_horizon(_stack: Stack, size: Size) -> list[Row]:
    """A transaction that stays open, on stacks of its own; `python -m bench.horizon` holds it for longer."""
    return horizon.compare(horizon.Plan(size.hold_seconds, size.hold_seconds / 10, bursts=3))


def dashboard_pages(stack: Stack, size: Size) -> list[Row]:
    """The server time of every page, with many jobs in the table beside few."""
    pages, others = page_times(stack, size.table, size.page_rounds)
    worst = max(pages, key=lambda page: page.ratio)
    title = (
        f"dashboard with {size.table:,} jobs, of {len(pages)} pages and live parts the worst: {worst.name}"
    )
    few = f"with {FEW:,}"
    return [
        Row("page_worst", title, "ms", worst.many, worst.few, few, "ratio", 1.5, at_most=True),
        Row(
            "page_sum",
            "  the sum of all of them",
            "ms",
            sum(page.many for page in pages),
            sum(page.few for page in pages),
            few,
        ),
        *(
            Row(key, f"  apart: {page.name}", "ms", page.many, page.few, few)
            for key, page in zip(("page_search", "page_dry_run"), others, strict=True)
        ),
    ]


def open_dashboards(stack: Stack, size: Size) -> list[Row]:
    """Creating over HTTP while dashboards are open."""
    beside = creates_beside(stack, size.open_rounds, size.open_seconds)
    p95 = {
        phase: median([percentile(found.seconds, 95) for found in phases]) * 1000
        for phase, phases in beside.phases.items()
    }
    return [
        Row(
            "create_beside_dashboards",
            f"POST /jobs/create beside {COUNT} open dashboards, p95",
            "ms",
            p95[DASHBOARDS],
            p95[ALONE],
            "beside none",
            "ratio",
            1.3,
            at_most=True,
        ),
        Row(
            "create_beside_trivial",
            f"  beside as many requests for {TRIVIAL_PATH}, p95",
            "ms",
            p95[TRIVIAL],
            p95[ALONE],
            "beside none",
        ),
    ]


MEASUREMENTS: dict[str, Measurement] = {
    "drain": noop_drain,
    "nap": nap_drain,
    "kinds": job_kinds,
    "batches": batch_drain,
    "pickup": pickup_latency,
    "leases": leases,
    "held-up": held_up,
    "http": create_endpoint,
    "create-times": create_seconds,
    "slow": slow_clients,
    "enqueue": enqueue_call,
    "bulk": bulk_call,
    "memory": idle_memory,
    "async": async_jobs,
    "children": child_processes,
    "events": events,
    "limits": limited_drain,
    "admission": admission,
    "horizon": held_horizon,
    "namespaces": namespaces,
    "pages": dashboard_pages,
    "dashboards": open_dashboards,
}


def _post_stamp(client: Client, number: int) -> None:
    body = {"queue": "bench", "type": "stamp", "payload": {"number": number}}
    status, answer = client.post(request("/jobs/create", json.dumps(body).encode()))
    if status != 201:
        raise RuntimeError(f"POST /jobs/create answered {status}: {answer[:500]!r}")


def _library_pickup(stack: Stack, system: System, size: Size) -> tuple[float, float]:
    return pickup(stack, lambda n: system.enqueue("stamp", {"number": n}), samples=size.samples)


def _idle_worker(system: System) -> Memory:
    """The larger of the worker processes, when they have come to rest: their boot takes its time."""
    with system.running() as roles:
        before: list[float] = []
        for _ in range(BOOT_TRIES):
            time.sleep(SETTLE_SECONDS)
            found = [memory(process) for process in roles["workers"].tree()[1:]]
            now = [one.uss for one in found]
            if len(now) >= PROCESSES and _is_alike(before, now):
                return max(found, key=lambda one: one.uss)
            before = now
    raise TimeoutError("the workers did not come to rest")


def _is_alike(before: Sequence[float], now: Sequence[float]) -> bool:
    return len(before) == len(now) and all(
        abs(one - other) < RESTING_MIB for one, other in zip(before, now, strict=True)
    )
