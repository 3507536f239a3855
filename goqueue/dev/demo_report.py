"""The output of the demo: its progress while it runs, and then every number beside what it must be."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from statistics import quantiles
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from goqueue.dev.demo_jobs import DemoKind
    from goqueue.dev.fakes.payment_sandbox import PaymentSandbox
    from goqueue.dev.fakes.smtp_sink import SmtpSink
    from goqueue.dev.fakes.webhook_receiver import WebhookReceiver

#: Without a terminal there is a line instead of a bar, so often.
LINE_SECONDS = 1.0


class Number(NamedTuple):
    """One number of the demo, and what it must be."""

    what: str
    counted: int
    expected: int


@dataclass(frozen=True, slots=True)
class DemoFacts:
    """The facts that the API and the fakes tell after the run.

    Attributes:
        jobs: every job, as GET /jobs shows it.
        replays: creates that were answered with the job of an earlier one.
        ended_well: every process of the stack ended by itself and without an error.
    """

    jobs: list[dict[str, Any]]
    replays: int
    mail: SmtpSink
    payments: PaymentSandbox
    webhooks: WebhookReceiver
    ended_well: bool


@contextmanager
def progress_bar(total: int) -> Iterator[Callable[[int, int], None]]:
    """Show how many jobs are created and ended: a bar on a terminal, lines elsewhere."""
    console = Console()
    if not console.is_terminal:
        yield _Lines(total)
        return
    columns = (TextColumn("{task.description:>8}"), BarColumn(40), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        created = progress.add_task("created", total=total)
        ended = progress.add_task("ended", total=total)

        def show(created_now: int, ended_now: int) -> None:
            progress.update(created, completed=created_now)
            progress.update(ended, completed=ended_now)

        yield show


class _Lines:
    def __init__(self, total: int) -> None:
        self._total = total
        self._shown_at = 0.0

    def __call__(self, created: int, ended: int) -> None:
        now = time.monotonic()
        if now - self._shown_at >= LINE_SECONDS or ended == self._total:
            self._shown_at = now
            Console().print(f"created {created}, ended {ended} of {self._total}", highlight=False)


def print_report(facts: DemoFacts, kinds: list[DemoKind], *, more_mails_expected: int = 0) -> bool:
    """Print the summary; whether every number is as expected."""
    console = Console()
    numbers = _numbers(facts, kinds, more_mails_expected)
    console.print(_table_of_numbers(numbers), _table_of_dead_letters(facts.jobs), _table_of_times(facts.jobs))
    wrong = [number for number in numbers if number.counted != number.expected]
    for number in wrong:
        console.print(
            f"[red]wrong: {number.what}: expected {number.expected}, counted {number.counted}[/red]"
        )
    if not facts.ended_well:
        console.print("[red]wrong: a process of the stack did not end by itself and without an error[/red]")
    if not wrong and facts.ended_well:
        console.print(f"[green]All {len(numbers)} numbers are as expected.[/green]")
    return not wrong and facts.ended_well


def _numbers(facts: DemoFacts, kinds: list[DemoKind], more_mails_expected: int) -> list[Number]:
    return [
        *_numbers_of_jobs(facts, kinds),
        *_numbers_of_mails(facts.mail, kinds, more_mails_expected),
        *_numbers_of_webhooks(facts.webhooks, kinds),
        *_numbers_of_payments(facts.payments, kinds),
    ]


def _numbers_of_jobs(facts: DemoFacts, kinds: list[DemoKind]) -> list[Number]:
    statuses = Counter(job["status"] for job in facts.jobs)
    retried = sum(job["attempts"] > 1 for job in facts.jobs)
    retries = sum(max(0, job["attempts"] - 1) for job in facts.jobs)
    total = sum(kind.count for kind in kinds)
    failed = sum(kind.count for kind in kinds if kind.status == "failed")
    return [
        Number("jobs created", len(facts.jobs), total),
        Number("creates repeated with the same key", facts.replays, min(10, total // 2)),
        Number("completed", statuses["completed"], total - failed),
        Number("jobs retried", retried, sum(kind.count for kind in kinds if kind.runs > 1)),
        Number("retries in all", retries, sum(kind.count * (kind.runs - 1) for kind in kinds)),
        Number("failed for good (dead letters)", statuses["failed"], failed),
    ]


def _numbers_of_mails(mail: SmtpSink, kinds: list[DemoKind], more_expected: int) -> list[Number]:
    expected = sum(kind.count * kind.mails for kind in kinds) + more_expected
    return [
        Number("mails received", mail.distinct, expected),
        Number("mails received twice", mail.repeats, 0),
    ]


def _numbers_of_webhooks(webhooks: WebhookReceiver, kinds: list[DemoKind]) -> list[Number]:
    callers = [kind for kind in kinds if kind.webhooks]
    accepted = sum(kind.count for kind in callers if kind.status == "completed")
    return [
        Number(
            "webhooks received, signature valid", webhooks.valid, sum(k.count * k.webhooks for k in callers)
        ),
        Number("webhooks received, signature invalid", webhooks.invalid, 0),
        Number("webhooks accepted by the receiver", len(webhooks.accepted), accepted),
        Number("webhooks accepted twice", webhooks.accepted.total() - len(webhooks.accepted), 0),
    ]


def _numbers_of_payments(payments: PaymentSandbox, kinds: list[DemoKind]) -> list[Number]:
    charged = Counter(payments.charges.values())
    repeated = sum(kind.count * kind.repeated_charges for kind in kinds)
    return [
        Number("payments charged exactly once", charged[1], sum(kind.count * kind.charges for kind in kinds)),
        Number("payments charged twice", len(payments.charges) - charged[1], 0),
        Number("lost answers asked for again, not charged again", payments.repeats, repeated),
    ]


def _table_of_numbers(numbers: list[Number]) -> Table:
    table = Table("", "counted", "expected", "", title="What happened", title_justify="left")
    for column in table.columns[1:3]:
        column.justify = "right"
    for what, counted, expected in numbers:
        mark = "[green]✓[/green]" if counted == expected else "[red]✗[/red]"
        table.add_row(what, f"{counted:,}", f"{expected:,}", mark)
    return table


def _table_of_dead_letters(jobs: list[dict[str, Any]]) -> Table:
    failed = [job for job in jobs if job["status"] == "failed"]
    groups = Counter((job["type"], job["attempts"], job["error"]) for job in failed)
    table = Table("jobs", "type", "runs", "error", title="Dead letters", title_justify="left")
    for (job_type, runs, error), count in sorted(groups.items()):
        table.add_row(str(count), job_type, str(runs), error)
    return table


def _table_of_times(jobs: list[dict[str, Any]]) -> Table:
    table = Table("", "p50", "p95", title="How fast", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    at_once = [job for job in jobs if job["attempts"] == 1]
    waits = [_seconds_between(job, "created_at", "started_at") for job in at_once]
    runs = [_seconds_between(job, "started_at", "finished_at") for job in at_once]
    for what, seconds in (("wait, from created to started", waits), ("run, from started to recorded", runs)):
        cuts = quantiles(seconds, n=20)
        table.add_row(what, f"{cuts[9] * 1000:,.0f} ms", f"{cuts[18] * 1000:,.0f} ms")
    begin = min(_moment(job, "created_at") for job in jobs)
    end = max(_moment(job, "finished_at") for job in jobs)
    table.caption = f"{len(jobs) / (end - begin).total_seconds():,.0f} jobs/s, creating and retries included"
    table.caption_justify = "left"
    return table


def _seconds_between(job: dict[str, Any], earlier: str, later: str) -> float:
    return (_moment(job, later) - _moment(job, earlier)).total_seconds()


def _moment(job: dict[str, Any], name: str) -> datetime:
    return datetime.fromisoformat(job[name])
