"""`goqueue api`: the API under gunicorn, with a worker class and a log pipeline of ours."""

from __future__ import annotations

import logging
import shutil
import tempfile
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger

from goqueue.observability.shared_metrics import SharedMetrics
from goqueue.ops.ports import refuse_taken_port

if TYPE_CHECKING:
    from goqueue.config.settings import Settings

#: What gunicorn says at INFO about its own processes, and nobody asked.
CHATTER = ("Starting gunicorn", "Using worker", "Booting worker", "Worker exiting", "Handling signal")


def serve(settings: Settings) -> None:
    """Serve until SIGTERM, then answer what was asked already, and exit the process with 0.

    Raises:
        StartupError: the address cannot be bound.
    """
    # gunicorn would try for five seconds.
    refuse_taken_port("the API", settings.api_port, settings.api_host)
    _ApiApplication(settings).run()


class PipelineLogger(Logger):
    """gunicorn's log records without handlers of their own: they go up to the root, as everybody's."""

    def setup(self, cfg: Any) -> None:
        """Leave formatting and output to the root's handler; requests are logged by our middleware."""
        self.cfg = cfg
        self._access_log_enabled = False
        self.error_log.propagate = True
        self.error_log.addFilter(_is_worth_a_line)

    def access(self, *_: Any) -> None:
        """Log nothing of a request."""


class _ApiApplication(BaseApplication):
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # Each worker process counts there, and any of them tells what all have counted.
        self._metrics = Path(tempfile.mkdtemp(prefix="goqueue-api-"))
        super().__init__()

    def load_config(self) -> None:
        settings = self._settings
        options = {
            "bind": [f"{_in_url(settings.api_host)}:{settings.api_port}"],
            "worker_class": "goqueue.api.server.worker.BufferingWorker",
            "workers": settings.api_processes,
            "threads": settings.api_threads,
            "graceful_timeout": int(settings.shutdown_grace_seconds),
            "logger_class": PipelineLogger,
            "control_socket_disable": True,  # a socket file in the home folder that nobody asked for
            "proc_name": "goqueue-api",
            "post_fork": self._join_metrics,
            "child_exit": self._retire_metrics,
            "on_exit": self._remove_metrics,
        }
        for name, value in options.items():
            if name in self.cfg.settings:  # the control socket came with gunicorn 25.1
                self.cfg.set(name, value)

    def load(self) -> Any:
        return import_module("goqueue.wsgi").app

    def _join_metrics(self, _arbiter: Any, _worker: Any) -> None:
        SharedMetrics(self._metrics).join()

    def _retire_metrics(self, _arbiter: Any, worker: Any) -> None:
        SharedMetrics(self._metrics).retire(worker.pid)

    def _remove_metrics(self, _arbiter: Any) -> None:
        shutil.rmtree(self._metrics, ignore_errors=True)


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    return record.levelno != logging.INFO or not record.getMessage().startswith(CHATTER)


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
