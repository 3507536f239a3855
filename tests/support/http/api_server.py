"""The API under its own server, in a process of its own, which can be started anew."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from goqueue.config.settings import Settings, environment_of
from goqueue.dev.embedded import free_port
from tests.support.http.slow_clients import ask
from tests.support.waiting import wait_until

__all__ = ["ApiServer"]

WORKER = "goqueue.api.server.worker.BufferingWorker"


class ApiServer:
    """The API in a process of its own, with two threads."""

    def __init__(self, settings: Settings) -> None:
        self.port = free_port()
        self._settings = settings.model_copy(update={"actors": ("tests.support.jobs.noop_jobs",)})
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [sys.executable, "-m", "gunicorn", "goqueue.wsgi:app", "-k", WORKER, "--threads", "2"]
        self._process = subprocess.Popen(
            [*command, "-b", f"127.0.0.1:{self.port}"], env=environment_of(self._settings)
        )
        wait_until(self._answers, timeout_seconds=60)

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait()

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Send a request; status and document of the answer."""
        status, _, content = ask(self.port, method, path, body, timeout=60)
        return status, json.loads(content)

    def _answers(self) -> bool:
        try:
            return bool(ask(self.port, "GET", "/health")[0] == 200)
        except OSError:
            return False
