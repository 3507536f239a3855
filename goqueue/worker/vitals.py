"""What a worker process says of itself, and the port on which one of a group answers for all of them.

Every process of a group counts into files of one folder and leaves a sign of life there. One of them, whoever
has the lock of the folder, listens on the port; when it ends, however that is, another takes over within a
second. A process that is stuck keeps its lock, but its sign of life grows old, and that fails `/health/live`.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

import structlog

from goqueue.observability import metrics
from goqueue.observability.monitoring_server import MonitoringPort, Probes, Problems
from goqueue.observability.shared_metrics import SharedMetrics
from goqueue.worker.group_folder import GroupFolder, SignOfLife
from goqueue.worker.lease import is_running

if TYPE_CHECKING:
    from goqueue.worker.broker import JobBroker

log = structlog.get_logger(__name__)

BEAT_SECONDS = 1.0


class Vitals:
    """One thread that leaves signs of life, and listens for the group where no other process does.

    Raises:
        StartupError: there is no folder to share.
    """

    def __init__(self, broker: JobBroker) -> None:
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
        self._thread = threading.Thread(target=self._run, name="vitals", daemon=True)

    def start(self) -> None:
        """Join the group."""
        self._shared.join()
        self._thread.start()

    def stop(self) -> None:
        """Leave the group; what was counted stays."""
        self._stopping.set()
        self._thread.join(BEAT_SECONDS + self._settings.redis_timeout_seconds)
        self._port.close()
        self._folder.leave()

    def live(self) -> Problems:
        """Which processes of the group are stuck, or have lost a thread."""
        now = time.monotonic()
        signs = sorted(self._folder.signs().items())
        stuck = [
            f"process {pid} has not turned its fetch loop for {now - sign.turned_at:.0f} s"
            for pid, sign in signs
            if not sign.draining and now - sign.turned_at > self._settings.liveness_seconds
        ]
        return stuck + [f"process {pid} {sign.problem}" for pid, sign in signs if sign.problem]

    def ready(self) -> Problems:
        """Which processes of the group cannot take jobs now."""
        return self.live() + [
            f"process {pid} is {'draining' if sign.draining else 'not registered or not connected'}"
            for pid, sign in sorted(self._folder.signs().items())
            if not sign.ready
        ]

    def _run(self) -> None:
        while True:
            try:
                self._beat()
                if self._folder.may_serve():
                    self._port.tend()
                    self._retire_dead()
            except Exception:
                log.exception("vitals_failed")
            if self._stopping.wait(BEAT_SECONDS):
                return

    def _beat(self) -> None:
        broker = self._broker
        metrics.RECORDER_PENDING.set(broker.recorder.pending)
        draining = broker.draining.is_set()
        turned_at = broker.beats.oldest(self._started_at)
        self._folder.beat(
            SignOfLife(
                turned_at,
                ready=not draining and self._is_ready(),
                draining=draining,
                problem=broker.beats.problem,
            )
        )

    def _is_ready(self) -> bool:
        """Whether it has a lease, which was renewed in time, and its consumers reach both servers."""
        holdings = self._broker.holdings
        lease_age = time.monotonic() - holdings.renewed_at
        return (
            bool(holdings.worker_id)
            and lease_age < self._settings.lease_seconds
            and not self._broker.beats.outages
        )

    def _retire_dead(self) -> None:
        for pid in self._shared.pids():
            if pid != os.getpid() and not is_running(pid):
                self._shared.retire(pid)
