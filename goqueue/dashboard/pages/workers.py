"""The worker processes: what each runs, and telling it to be quiet, to go on, or to stop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import falcon

from goqueue.dashboard.access.guard import FOLDER
from goqueue.dashboard.notices import go_to
from goqueue.dashboard.page import Page, Site, one_moment
from goqueue.engine.workers.worker_commands import tell_worker
from goqueue.engine.workers.worker_rows import Worker, WorkerCommand, WorkerState
from goqueue.insight import worker_listing_rows as worker_lists
from goqueue.insight.worker_listing_rows import WORKERS_SHOWN, WorkAtHand

__all__ = ["WorkerAction", "WorkersPage"]

PLACE = f"{FOLDER}/workers"

#: What the page says after a change.
_SAID = {
    WorkerCommand.QUIET: "takes no more jobs; it finishes those that it has",
    WorkerCommand.STOP: "ends when its jobs have ended, at the latest after the grace period",
    None: "takes jobs again",
}


@dataclass(frozen=True, slots=True)
class Process:
    """A worker process with what it runs."""

    worker: Worker
    work: WorkAtHand

    @property
    def free(self) -> int:
        """The number of threads without a job."""
        return max(0, self.worker.threads - self.work.threads)

    @property
    def async_busy(self) -> int:
        """The number of async slots that are taken."""
        return min(self.work.async_slots, self.worker.async_slots)

    @property
    def places(self) -> int:
        """The number of its threads and async slots."""
        return self.worker.threads + self.worker.async_slots

    @property
    def more(self) -> int:
        """The number of jobs that run and are not shown."""
        return max(0, self.work.count - self.ahead - len(self.work.jobs))

    @property
    def ahead(self) -> int:
        """The number of jobs that it claimed and that wait for a thread, or for an async slot."""
        waiting = max(0, self.work.threads - self.worker.threads)
        return waiting + self.work.async_slots - self.async_busy


@dataclass(frozen=True, slots=True)
class Host:
    """A host with its worker processes."""

    name: str
    processes: Sequence[Process]

    @property
    def threads(self) -> int:
        """The number of threads of its processes."""
        return sum(process.worker.threads for process in self.processes)

    @property
    def busy(self) -> int:
        """The number of threads that have a job."""
        return sum(process.worker.threads - process.free for process in self.processes)

    @property
    def async_slots(self) -> int:
        """The number of async slots of its processes."""
        return sum(process.worker.async_slots for process in self.processes)

    @property
    def async_busy(self) -> int:
        """The number of async slots that are taken."""
        return sum(process.async_busy for process in self.processes)

    @property
    def memory_bytes(self) -> int:
        """The memory that its processes have for themselves."""
        return sum(process.worker.memory_bytes or 0 for process in self.processes)


class WorkersPage(Page):
    """The page with hosts, their processes, and what each runs."""

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Show hosts, their processes, and what each runs."""
        lease_seconds = self._goqueue.settings.lease_seconds
        with one_moment(self._goqueue.database) as connection:
            present = worker_lists.present(connection, lease_seconds=lease_seconds)
            gone = worker_lists.gone(connection, lease_seconds=lease_seconds)
            work = worker_lists.at_hand(connection, present[:WORKERS_SHOWN])
        hosts = list(_hosts(present[:WORKERS_SHOWN], work))
        self._renderer.page(
            request,
            response,
            "workers.html",
            hosts=hosts,
            gone=gone,
            shown=WORKERS_SHOWN,
            has_more=len(present) > WORKERS_SHOWN,
            counts=_counts(present),
            threads=sum(host.threads for host in hosts),
            busy=sum(host.busy for host in hosts),
            async_slots=sum(host.async_slots for host in hosts),
            async_busy=sum(host.async_busy for host in hosts),
            heartbeat_seconds=self._goqueue.settings.heartbeat_seconds,
            grace_seconds=self._goqueue.settings.shutdown_grace_seconds,
        )


class WorkerAction(Page):
    """The action that gives a worker a command; None lets it take jobs again."""

    def __init__(self, site: Site, command: WorkerCommand | None) -> None:
        super().__init__(site)
        self._command = command

    def on_post(self, request: falcon.Request, response: falcon.Response, worker_id: int) -> None:
        """Note the command, and go back to the page."""
        goqueue = self._goqueue
        worker = tell_worker(goqueue.database, goqueue.settings, worker_id, self._command)
        title = worker.title[0].upper() + worker.title[1:]
        name = f"{title} (worker {worker.id})"
        go_to(request, response, PLACE, f"{name} {_SAID[self._command]}.")


def _hosts(workers: Sequence[Worker], work: Mapping[int, WorkAtHand]) -> Iterator[Host]:
    """Hosts by name; the processes of each as they were started, so that none changes its place.

    Workers that lease over HTTP stand together, those of each client.
    """
    ordered = sorted(workers, key=lambda worker: (_host_name(worker), worker.id))
    for name, group in groupby(ordered, key=_host_name):
        yield Host(name, [Process(worker, work.get(worker.id, WorkAtHand())) for worker in group])


def _host_name(worker: Worker) -> str:
    if not worker.is_remote:
        return worker.hostname
    return f"Remote workers of {worker.client}" if worker.client else "Remote workers"


def _counts(workers: Sequence[Worker]) -> dict[str, int]:
    return {state.value: sum(worker.state is state for worker in workers) for state in WorkerState}
