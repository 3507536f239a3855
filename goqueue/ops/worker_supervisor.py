"""`goqueue worker`: keeps so many worker processes alive.

Dramatiq's own command starts several processes, and stops all of them when one dies. So each process is a
command of its own here, and only the one that died is started again.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from goqueue.config.settings import Settings, environment_of
from goqueue.ops.processes import MARGIN_SECONDS, Command
from goqueue.ops.supervisor import StopRequest, Supervisor


def worker_commands(settings: Settings, *, name: str = "worker") -> list[Command]:
    """Make one command for every wanted worker process.

    Args:
        settings: how many, how many threads each, which queues, and the grace period.
        name: what log lines call them; a number follows where there are several.
    """
    arguments = [sys.executable, "-m", "goqueue.ops.worker_command", "goqueue.actors", "--skip-logging"]
    arguments += ["--processes", "1"]
    # Until its worker has booted, or this time is over, Dramatiq's parent takes no signal and does not see
    # the worker die: with its default of 30 s one that died at its start would be missing for that long.
    arguments += ["--worker-fork-timeout", "100"]
    arguments += ["--threads", str(settings.worker_threads)]
    arguments += ["--worker-shutdown-timeout", str(round(settings.shutdown_grace_seconds * 1000))]
    if settings.worker_queues:
        arguments += ["--queues", *settings.worker_queues]
    environment = environment_of(settings)
    count = settings.worker_processes
    return [
        Command(
            name=f"{name}-{number}" if count > 1 else name,
            arguments=tuple(arguments),
            environment=environment,
            grace_seconds=settings.shutdown_grace_seconds + settings.lifespan_close_seconds + MARGIN_SECONDS,
            shutdown_reasons=None if settings.metrics_folder is None else Path(settings.metrics_folder),
        )
        for number in range(1, count + 1)
    ]


def supervise_workers(settings: Settings, stop: StopRequest) -> bool:
    """Keep the workers alive until a stop is requested, then let them drain.

    A process that an operator told to stop is not started again; after the last one this returns.

    Returns:
        Whether every worker process ended by itself and without an error.
    """
    with metrics_folder(settings) as together:
        return Supervisor(worker_commands(together)).run(stop)


@contextmanager
def metrics_folder(settings: Settings) -> Iterator[Settings]:
    """The settings with the folder of a group of workers; a temporary one goes at the end.

    They count together in it, and those that are told to stop leave a note for their supervisor.
    """
    if settings.metrics_folder is not None:
        yield settings
        return
    with tempfile.TemporaryDirectory(prefix="goqueue-workers-", ignore_cleanup_errors=True) as folder:
        yield settings.model_copy(update={"metrics_folder": folder})
