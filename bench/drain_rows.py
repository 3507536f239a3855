"""The rows of drains: GoQueue beside Dramatiq and Sidekiq, and its kinds of jobs beside plain ones."""

from __future__ import annotations

from collections.abc import Sequence

from bench import sidekiq
from bench.drain import Drain, drain
from bench.job_kinds import KINDS, PLAIN, JobKind, drain_kind
from bench.report import Row
from bench.size import Size
from bench.stack import PROCESSES, THREADS, Stack
from bench.statistics import median, rotated
from bench.systems import BareDramatiq, GoQueue, System

__all__ = ["batch_drain", "job_kinds", "nap_drain", "noop_drain"]

NAP_SECONDS = 0.01
CPU_UNIT = "CPU s / 1,000"
CPU_TITLE = "  CPU of it: all"
CPU_TARGET = 0.045
ROLES = {"workers": "workers", "postgres": "PostgreSQL", "valkey": "Redis", "scheduler": "scheduler"}
#: The parts that Dramatiq has as well.
KEPT = ("workers", "valkey")
#: Batches are drained in a third of the time: so many times the jobs make about the same one.
BATCH_DRAINS = 3
BATCH_TARGET = 40_000
#: So many times the plain path's cost a kind of job may have.
ALLOWED = 1.5


def noop_drain(stack: Stack, size: Size) -> list[Row]:
    """No-op jobs with the full record, beside the two systems that keep nothing."""
    systems: list[System] = [GoQueue(stack), BareDramatiq(stack)]
    if sidekiq.is_at_hand():
        systems.append(sidekiq.Sidekiq(stack))
    drains = _drains(stack, size.rounds, systems, job="noop", count=size.drain_jobs, payload={})
    mine, bare, ruby = (drains.get(name, []) for name in ("goqueue", "dramatiq", "sidekiq"))
    title = f"drain of {size.drain_jobs:,} no-op jobs, recorded"
    rate = _rate(mine)
    return [
        Row("drain", title, "jobs/s", rate, _rate(bare), "Dramatiq", "ratio", 8.0),
        _beside_sidekiq("drain_sidekiq", title, "jobs/s", rate, _rate(ruby) if ruby else None, ratio=1.3),
        *_cpu_rows(mine, bare),
        _beside_sidekiq("cpu_sidekiq", CPU_TITLE, CPU_UNIT, _cpu(mine), _cpu(ruby) if ruby else None),
    ]


def nap_drain(stack: Stack, size: Size) -> list[Row]:
    """Jobs that sleep for 10 ms, by the share of what the threads could do at most."""
    systems: list[System] = [GoQueue(stack), BareDramatiq(stack)]
    payload = {"seconds": NAP_SECONDS}
    drains = _drains(stack, size.rounds, systems, job="nap", count=size.nap_jobs, payload=payload)
    most = PROCESSES * THREADS / NAP_SECONDS
    share, bare_share = (_rate(drains[name]) / most * 100 for name in ("goqueue", "dramatiq"))
    title = "10 ms sleep jobs, of threads / 10 ms"
    return [Row("nap_share", title, "%", share, bare_share, "Dramatiq", target=97)]


def batch_drain(stack: Stack, size: Size) -> list[Row]:
    """No-op jobs in batches of a hundred, with the full record, beside the same jobs one by one, in turn."""
    drains: dict[str, list[Drain]] = {"noop": [], "noop_batch": []}
    count = size.drain_jobs * BATCH_DRAINS
    for number in range(size.rounds):
        for job in rotated(list(drains), number):
            drains[job].append(drain(stack, GoQueue(stack), job=job, count=count, payload={}))
    mine, plain = drains["noop_batch"], drains["noop"]
    title, beside = f"drain of {count:,} no-op jobs in batches of 100, recorded", PLAIN.title
    return [
        Row("batches", title, "jobs/s", _rate(mine), target=BATCH_TARGET),
        Row("batches_beside_plain", "  the same", "jobs/s", _rate(mine), _rate(plain), beside, "ratio"),
        Row("batches_cpu", CPU_TITLE, CPU_UNIT, _cpu(mine), _cpu(plain), beside, "ratio"),
    ]


def job_kinds(stack: Stack, size: Size) -> list[Row]:
    """Each kind of job beside plain ones, in turn: the CPU of a run, and runs a second."""
    drains: dict[str, list[Drain]] = {kind.key: [] for kind in (PLAIN, *KINDS)}
    for number in range(size.rounds):
        for kind in rotated((PLAIN, *KINDS), number):
            drains[kind.key].append(drain_kind(stack, kind, size.drain_jobs))
    return [row for kind in KINDS for row in _kind_rows(kind, drains[kind.key], drains[PLAIN.key])]


def _kind_rows(kind: JobKind, mine: Sequence[Drain], plain: Sequence[Drain]) -> list[Row]:
    cpu, rate = (_cpu(mine), _cpu(plain)), (_rate(mine), _rate(plain))
    beside = (PLAIN.title, "ratio")
    return [
        Row(f"kind_{kind.key}_cpu", kind.title, CPU_UNIT, *cpu, *beside, ALLOWED, at_most=True),
        Row(f"kind_{kind.key}", "  drain of them", "jobs/s", *rate, *beside, round(1 / ALLOWED, 2)),
    ]


def _drains(
    stack: Stack, rounds: int, systems: Sequence[System], *, job: str, count: int, payload: dict[str, float]
) -> dict[str, list[Drain]]:
    """Drain by each system in turn: what disturbs the machine disturbs all. None always begins."""
    drains: dict[str, list[Drain]] = {system.name: [] for system in systems}
    for number in range(rounds):
        for system in rotated(systems, number):
            drains[system.name].append(drain(stack, system, job=job, count=count, payload=payload))
    return drains


def _cpu_rows(mine: Sequence[Drain], bare: Sequence[Drain]) -> list[Row]:
    parts = [
        Row(
            f"cpu_{role}",
            f"  CPU of it: {title}",
            CPU_UNIT,
            median([one.cpu[role] for one in mine]),
            median([one.cpu[role] for one in bare]) if role in KEPT else None,
            "Dramatiq" if role in KEPT else "",
        )
        for role, title in ROLES.items()
    ]
    total = Row(
        "cpu_total",
        CPU_TITLE,
        CPU_UNIT,
        _cpu(mine),
        _cpu(bare),
        "Dramatiq",
        target=CPU_TARGET,
        at_most=True,
    )
    return [*parts, total]


def _beside_sidekiq(
    key: str, title: str, unit: str, mine: float, other: float | None, *, ratio: float | None = None
) -> Row:
    name = sidekiq.ABSENT if other is None else "Sidekiq"
    return Row(key, title, unit, mine, other, name, "ratio", ratio)


def _rate(drains: Sequence[Drain]) -> float:
    return median([one.jobs_per_second for one in drains])


def _cpu(drains: Sequence[Drain]) -> float:
    return median([sum(one.cpu.values()) for one in drains])
