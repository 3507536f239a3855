"""The measurements, each a function from a stack and a size to rows of the table."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench import enqueue, horizon, limits
from bench.creates import bulk_call, create_seconds
from bench.dashboard_creates import creates_beside
from bench.dashboard_pages import FEW, page_times
from bench.dashboard_visitors import ALONE, COUNT, DASHBOARDS, TRIVIAL, TRIVIAL_PATH
from bench.drain import Drain, drain
from bench.held_up import LONG_SECONDS, SHORT_JOBS, longest_waits
from bench.http_load import Client, request
from bench.pickup import pickup
from bench.processes import Memory, memory
from bench.report import Row
from bench.slow_clients import COUNT as COUNT_OF_SLOW
from bench.slow_clients import create_seconds as seconds_beside_slow
from bench.stack import PROCESSES, THREADS, Stack
from bench.statistics import median, percentile
from bench.systems import BareDramatiq, GoQueue, System

NAP_SECONDS = 0.01
SETTLE_SECONDS = 3.0
CPU_UNIT = "CPU s / 1,000"
ROLES = {"workers": "workers", "postgres": "PostgreSQL", "valkey": "Redis", "scheduler": "scheduler"}


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    rounds: int
    drain_jobs: int
    nap_jobs: int
    samples: int
    calls: int
    batch: int = 10_000
    backlog: int = 200_000
    keys: int = 100_000
    hold_seconds: float = 30.0
    table: int = 200_000
    page_rounds: int = 9
    open_rounds: int = 5
    open_seconds: float = 12.0


Measurement = Callable[[Stack, Size], list[Row]]


def noop_drain(stack: Stack, size: Size) -> list[Row]:
    """Rows 1 and 2: no-op jobs, with the full record."""
    mine, bare = _drains(stack, size.rounds, job="noop", count=size.drain_jobs, payload={})
    title = f"drain of {size.drain_jobs:,} no-op jobs, recorded"
    rate = _against_dramatiq("drain", title, "jobs/s", _rates(mine), _rates(bare), ratio=2.2)
    costs = [
        Row(
            f"cpu_{role}",
            f"  CPU of it: {title}",
            CPU_UNIT,
            median([one.cpu[role] for one in mine]),
            median([one.cpu[role] for one in bare]) if role in ("workers", "valkey") else None,
            "Dramatiq",
        )
        for role, title in ROLES.items()
    ]
    total = Row(
        "cpu_total",
        "  CPU of it: all",
        CPU_UNIT,
        median([sum(one.cpu.values()) for one in mine]),
        median([sum(one.cpu.values()) for one in bare]),
        "Dramatiq",
    )
    return [rate, *costs, total]


def nap_drain(stack: Stack, size: Size) -> list[Row]:
    """Row 4: jobs that sleep for 10 ms, by the share of what the threads could do at most."""
    mine, bare = _drains(stack, size.rounds, job="nap", count=size.nap_jobs, payload={"seconds": NAP_SECONDS})
    most = PROCESSES * THREADS / NAP_SECONDS
    title = "10 ms sleep jobs, of threads / 10 ms"
    share, bare_share = _rates(mine) / most * 100, _rates(bare) / most * 100
    return [Row("nap_share", title, "%", share, bare_share, "Dramatiq", target=95)]


def pickup_latency(stack: Stack, size: Size) -> list[Row]:
    """Row 3: from the answer to the start of the handler, on idle workers."""
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
    for place, name, target in ((0, "p50", 2.0), (1, "p99", 10.0)):
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
    """Rows 5 and 7: creating over HTTP."""
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
    """Row 6: creating by the library, one by one."""
    enqueue.prepare_bare(stack)
    mine, bare, sends = [], [], []
    for _ in range(size.rounds):
        mine.append(enqueue.goqueue_enqueues(stack, size.calls))
        bare.append(enqueue.bare_inserts(stack, size.calls))
        sends.append(enqueue.dramatiq_sends(stack, size.calls))
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
    ]


def idle_memory(stack: Stack, size: Size) -> list[Row]:  # noqa: ARG001  (every measurement's signature)
    """Row 8: what an idle worker process occupies."""
    stack.clear()
    mine, bare = _idle_worker(GoQueue(stack)), _idle_worker(BareDramatiq(stack))
    title = "idle worker process, its own memory"
    shared = "idle worker process, with its share of shared memory"
    return [
        Row("memory_uss", title, "MiB", mine.uss, bare.uss, "Dramatiq"),
        Row("memory_pss", shared, "MiB", mine.pss, bare.pss, "Dramatiq"),
    ]


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
    "pickup": pickup_latency,
    "held-up": held_up,
    "http": create_endpoint,
    "create-times": create_seconds,
    "slow": slow_clients,
    "enqueue": enqueue_call,
    "bulk": bulk_call,
    "memory": idle_memory,
    "limits": limited_drain,
    "admission": admission,
    "horizon": held_horizon,
    "pages": dashboard_pages,
    "dashboards": open_dashboards,
}


def _drains(
    stack: Stack, rounds: int, *, job: str, count: int, payload: dict[str, float]
) -> tuple[list[Drain], list[Drain]]:
    """Both systems in turn: what disturbs the machine disturbs both."""
    mine, bare = [], []
    for _ in range(rounds):
        mine.append(drain(stack, GoQueue(stack), job=job, count=count, payload=payload))
        bare.append(drain(stack, BareDramatiq(stack), job=job, count=count, payload=payload))
    return mine, bare


def _rates(drains: Sequence[Drain]) -> float:
    return median([one.jobs_per_second for one in drains])


def _against_dramatiq(key: str, title: str, unit: str, mine: float, bare: float, *, ratio: float) -> Row:
    return Row(key, title, unit, mine, bare, "Dramatiq", "ratio", ratio)


def _post_stamp(client: Client, number: int) -> None:
    body = {"queue": "bench", "type": "stamp", "payload": {"number": number}}
    status, answer = client.post(request("/jobs/create", json.dumps(body).encode()))
    if status != 201:
        raise RuntimeError(f"POST /jobs/create answered {status}: {answer[:500]!r}")


def _library_pickup(stack: Stack, system: System, size: Size) -> tuple[float, float]:
    return pickup(stack, lambda n: system.enqueue("stamp", {"number": n}), samples=size.samples)


def _idle_worker(system: System) -> Memory:
    with system.running() as roles:
        time.sleep(2 * SETTLE_SECONDS)
        processes = roles["workers"].tree()[1:]
        return max(map(memory, processes), key=lambda one: one.uss)
