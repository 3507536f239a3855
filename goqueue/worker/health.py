"""The health of a worker process: its consumers' turns, its memory, and the port of its group.

Its health is told by when its consumers last turned and which of them reach their servers; its memory is what
the process has for itself. One process of a group answers on the port for all of them.

Every process of a group counts into files of one folder and leaves a sign of life there. One of them, whoever
has the lock of the folder, listens on the port; when it ends, however that is, another takes over within a
second. A process that is stuck keeps its lock, but its sign of life grows old, and that fails `/health/live`.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from goqueue.observability import metrics
from goqueue.observability.monitoring_server import MonitoringPort, Probes, Problems
from goqueue.observability.shared_metrics import SharedMetrics
from goqueue.worker.background_thread import BackgroundThread
from goqueue.worker.group_folder import GroupFolder, SignOfLife

if TYPE_CHECKING:
    from goqueue.worker.broker import JobBroker

log = structlog.get_logger(__name__)

HEARTBEAT_SECONDS = 1.0

_STATM = Path("/proc/self/statm")


def own_memory_bytes() -> int | None:
    """Read what is in memory and no file's: libraries are shared by all processes. None: nothing tells it.

    Some microseconds.
    """
    try:
        _, resident, shared, *_ = _STATM.read_text().split()
        return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None


def is_running(pid: int) -> bool:
    """Tell whether there is such a process; a number that was given to another one counts as running."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    """A killed child whose parent has not asked for its end yet still has a number."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError):
        return False


class Heartbeats:
    """The last turn of each consumer, by the monotonic clock. Thread-safe: every step is one operation."""

    def __init__(self) -> None:
        self._turned: dict[str, float] = {}
        #: Queues whose consumer pauses, because PostgreSQL or Redis does not answer.
        self.outages: set[str] = set()
        #: What is wrong with the threads of this process, in words; empty when they are well.
        self.problem = ""

    def turn(self, queue: str) -> None:
        """Note that the consumer of this queue begins another turn."""
        self._turned[queue] = time.monotonic()

    def oldest(self, default: float) -> float:
        """The last turn of the consumer that has not turned for the longest; `default` before any did."""
        return min(self._turned.copy().values(), default=default)


class WorkerHealth(BackgroundThread):
    """One thread that leaves signs of life, and listens for the group where no other process does.

    Raises:
        StartupError: there is no folder to share.
    """

    def __init__(self, broker: JobBroker) -> None:
        super().__init__("health")
        self._broker = broker
        self._settings = broker.settings
        self._folder = GroupFolder(broker.settings)
        self._shared = SharedMetrics(self._folder.path)
        self._started_at = time.monotonic()
        self._port = MonitoringPort(
            broker.settings.metrics_host,
            broker.settings.worker_metrics_port,
            Probes(self.live, self.ready, self._retire_dead),
        )
        self._stopping = threading.Event()

    def start(self) -> None:
        """Join the group of worker processes."""
        self._shared.join()
        super().start()

    def stop(self) -> None:
        """Leave the group; what was counted stays."""
        self._stopping.set()
        self._thread.join(HEARTBEAT_SECONDS + self._settings.redis_timeout_seconds)
        self._port.close()
        self._folder.leave()

    def live(self) -> Problems:
        """Tell which processes of the group are stuck, or have lost a thread."""
        now = time.monotonic()
        signs = sorted(self._folder.signs().items())
        stuck = [
            f"process {pid} has not turned its fetch loop for {now - sign.turned_at:.0f} s"
            for pid, sign in signs
            if not sign.draining and now - sign.turned_at > self._settings.liveness_seconds
        ]
        return stuck + [f"process {pid} {sign.problem}" for pid, sign in signs if sign.problem]

    def ready(self) -> Problems:
        """Tell which processes of the group cannot take jobs now."""
        return self.live() + [
            f"process {pid} is {'draining' if sign.draining else 'not registered or not connected'}"
            for pid, sign in sorted(self._folder.signs().items())
            if not sign.ready
        ]

    def _run(self) -> None:
        while True:
            try:
                self._heartbeat()
                if self._folder.may_serve():
                    self._port.tend()
                    self._retire_dead()
            except Exception:
                log.exception("vitals_failed")
            if self._stopping.wait(HEARTBEAT_SECONDS):
                return

    def _heartbeat(self) -> None:
        broker = self._broker
        metrics.RECORDER_PENDING.set(broker.recorder.pending)
        draining = broker.draining.is_set()
        turned_at = broker.heartbeats.oldest(self._started_at)
        self._folder.heartbeat(
            SignOfLife(
                turned_at,
                ready=not draining and self._is_ready(),
                draining=draining,
                problem=broker.heartbeats.problem,
            )
        )

    def _is_ready(self) -> bool:
        """Whether it has a lease, which was renewed in time, and its consumers reach both servers."""
        claimed_jobs = self._broker.claimed_jobs
        lease_age = time.monotonic() - claimed_jobs.renewed_at
        return (
            bool(claimed_jobs.worker_id)
            and lease_age < self._settings.lease_seconds
            and not self._broker.heartbeats.outages
        )

    def _retire_dead(self) -> None:
        for pid in self._shared.pids():
            if pid != os.getpid() and not is_running(pid):
                self._shared.retire(pid)
