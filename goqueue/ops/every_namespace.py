"""`--every-namespace`: the processes of an installation and of all namespaces inside of its database.

Each namespace has a scheduler and workers of its own, so none waits for the jobs of another. Those of a
namespace that is made are started within seconds, and those of one that was deleted are ended.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import structlog

from goqueue.access.namespaces import Namespaces
from goqueue.config.namespaces import DEFAULT_NAMESPACE
from goqueue.db.database import Database
from goqueue.ops.processes import Command, goqueue_command
from goqueue.ops.shares import WorkerSize, divided
from goqueue.ops.supervisor import TEND_SECONDS, StopRequest, Supervisor
from goqueue.ops.worker_supervisor import metrics_folder, worker_commands

if TYPE_CHECKING:
    from goqueue.config.settings import Settings

__all__ = ["EveryNamespace", "supervise_schedulers", "supervise_workers_of_all"]

log = structlog.get_logger(__name__)

#: The weight of the installation itself beside those of its namespaces.
DEFAULT_SHARE = 1


class _Group:
    """The processes of one namespace."""

    def __init__(self, size: WorkerSize, commands: Sequence[Command], resources: ExitStack) -> None:
        self.size = size
        self.supervisor = Supervisor(commands)
        self.supervisor.start()
        self._resources = resources

    def stop(self, forced: threading.Event) -> bool:
        """End the processes; whether all ended by themselves and without an error."""
        with self._resources:
            return self.supervisor.stop(forced)


class EveryNamespace:
    """Keeps the processes of every namespace running, from the first `tend` to `stop`.

    Args:
        settings: of the installation.
        namespaces: those inside of its database.
        commands: makes the commands of a namespace, by its settings, its name and the size of its workers.
    """

    def __init__(
        self,
        settings: Settings,
        namespaces: Namespaces,
        commands: Callable[[Settings, str, WorkerSize], Sequence[Command]],
    ) -> None:
        self._settings = settings
        self._namespaces = namespaces
        self._commands = commands
        self._groups: dict[tuple[str, int], _Group] = {}
        #: Those of namespaces that are gone, or have other sizes now, which take their time to end.
        self._ending: list[threading.Thread] = []

    @property
    def pids(self) -> dict[str, dict[str, int]]:
        """The process ids of what runs now, by namespace and the name of the command."""
        return {name: group.supervisor.pids for (name, _), group in self._groups.items()}

    def tend(self) -> None:
        """Start the processes of new namespaces, end those of others that are gone, restart what ended."""
        wanted = self._wanted()
        for key in self._groups.keys() - wanted.keys():
            log.info("namespace_processes_ended", namespace=key[0])
            # Its tables are gone: what its jobs do is kept nowhere.
            self._end(self._groups.pop(key), now=True)
        for key, size in wanted.items():
            group = self._groups.get(key)
            if group is not None and group.size != size:
                self._end(self._groups.pop(key), now=False)
                group = None
            if group is None:
                self._groups[key] = self._start(key[0], size)
            else:
                group.supervisor.tend()

    def run(self, stop: StopRequest) -> bool:
        """Tend until a stop is requested, then stop; whether all ended by themselves and without an error."""
        try:
            while not stop.requested.is_set():
                self.tend()
                stop.requested.wait(TEND_SECONDS)
        finally:
            clean = self.stop(stop.forced)
        return clean

    def stop(self, forced: threading.Event) -> bool:
        """End all processes at the same time; whether all ended by themselves and without an error."""
        clean: list[bool] = []
        threads = [
            threading.Thread(target=lambda group=group: clean.append(group.stop(forced)))
            for group in self._groups.values()
        ]
        for thread in threads:
            thread.start()
        for thread in [*threads, *self._ending]:
            thread.join()
        self._groups.clear()
        return all(clean)

    def _wanted(self) -> dict[tuple[str, int], WorkerSize]:
        """Whose processes are to run, and the size of the workers; one that was made anew is another one."""
        known = self._namespaces.known()
        shares = {DEFAULT_NAMESPACE: DEFAULT_SHARE} | {name: one.quotas.share for name, one in known.items()}
        sizes = divided(WorkerSize(self._settings.worker_processes, self._settings.worker_threads), shares)
        return {(name, known[name].id if name in known else 0): sizes[name] for name in shares}

    def _start(self, name: str, size: WorkerSize) -> _Group:
        is_home = name == DEFAULT_NAMESPACE
        settings = self._settings.within(None if is_home else name)
        if not is_home:
            # One process alone may have a port.
            settings = settings.model_copy(update={"worker_metrics_port": 0, "scheduler_metrics_port": 0})
        changes = {"worker_processes": size.processes, "worker_threads": size.threads}
        with ExitStack() as resources:
            own = resources.enter_context(metrics_folder(settings.model_copy(update=changes)))
            group = _Group(size, self._commands(own, name, size), resources.pop_all())
        log.info(
            "namespace_processes_started", namespace=name, processes=size.processes, threads=size.threads
        )
        return group

    def _end(self, group: _Group, *, now: bool) -> None:
        forced = threading.Event()
        if now:
            forced.set()
        self._ending = [thread for thread in self._ending if thread.is_alive()]
        thread = threading.Thread(target=group.stop, args=(forced,), daemon=True)
        thread.start()
        self._ending.append(thread)


def supervise_schedulers(settings: Settings, stop: StopRequest) -> bool:
    """Keep a scheduler of every namespace alive until a stop is requested; whether all ended well."""

    def commands(own: Settings, name: str, _size: WorkerSize) -> list[Command]:
        command = goqueue_command(own, "scheduler")
        return [Command(f"scheduler-{name}", command.arguments, command.environment, command.grace_seconds)]

    return _supervise(settings, stop, commands)


def supervise_workers_of_all(settings: Settings, stop: StopRequest) -> bool:
    """Keep workers of every namespace alive, their threads divided by shares; whether all ended well."""
    return _supervise(settings, stop, lambda own, name, _size: worker_commands(own, name=f"worker-{name}"))


def _supervise(
    settings: Settings,
    stop: StopRequest,
    commands: Callable[[Settings, str, WorkerSize], Sequence[Command]],
) -> bool:
    with closing(Database(settings, pool_size=1, application_name="goqueue-supervisor")) as database:
        return EveryNamespace(settings, Namespaces(settings, database), commands).run(stop)
