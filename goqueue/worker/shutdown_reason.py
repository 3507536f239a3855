"""The reason that a worker process leaves when an operator wanted its end, for `goqueue worker` to read.

The process leaves its reason in the folder of its group, under the number of its session, which is that of
the command that the supervisor started. Its exit code would not do: a handler that calls `os._exit(0)` must
not cost the group a process.
"""

from __future__ import annotations

import os
from pathlib import Path

import structlog

from goqueue.config.settings import Settings

__all__ = ["leave_shutdown_reason", "take_shutdown_reason"]

log = structlog.get_logger(__name__)


def leave_shutdown_reason(settings: Settings) -> None:
    """Say that this process ends on request; nobody reads it where no supervisor started the process."""
    if settings.metrics_folder is None:
        return
    try:
        folder = Path(settings.metrics_folder)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _path(folder, os.getsid(0)).touch()
    except OSError as error:
        log.warning("stop_not_noted", error=str(error))


def take_shutdown_reason(folder: Path, session: int) -> bool:
    """Take the reason of the process of this session; False: it left none."""
    try:
        _path(folder, session).unlink()
    except OSError:
        return False
    return True


def _path(folder: Path, session: int) -> Path:
    return folder / f"{session}.stopped"
