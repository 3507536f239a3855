"""Notes between a worker process and the `goqueue worker` that keeps it: why it ends, or is to be replaced.

They lie in the folder of their group, under the number of the process's session, which is that of the command
that the supervisor started. An exit code would not do: a handler that calls `os._exit(0)` must not cost the
group a process.
"""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path

import structlog

from goqueue.config.settings import Settings
from goqueue.jobs import ShutdownReason

__all__ = ["Note", "expect_notes", "is_kept", "leave_note", "take_note"]

log = structlog.get_logger(__name__)


class Note(StrEnum):
    """A note that one of the two leaves for the other."""

    #: The supervisor keeps this process, and reads what it leaves.
    KEPT = "kept"
    #: The process has registered and fetches.
    FETCHING = "fetching"
    #: The process asks to be replaced: by which of its limits.
    REPLACE = "replace"
    #: The process ends because an operator wants it to.
    STOPPED = "stopped"


def leave_note(settings: Settings, note: Note, reason: ShutdownReason | None = None) -> None:
    """Leave a note of this process; nobody reads it where no supervisor started the process."""
    if settings.metrics_folder is None:
        return
    try:
        folder = Path(settings.metrics_folder)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _path(folder, os.getsid(0), note).write_text(reason or "")
    except OSError as error:
        log.warning("stop_not_noted", error=str(error))


def is_kept(settings: Settings) -> bool:
    """Tell whether a supervisor keeps this process, and reads its notes."""
    return (
        settings.metrics_folder is not None
        and _path(Path(settings.metrics_folder), os.getsid(0), Note.KEPT).exists()
    )


def expect_notes(folder: Path, session: int) -> None:
    """Tell the process of a session that its notes are read. What an older one of that number left goes."""
    for note in Note:
        take_note(folder, session, note)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _path(folder, session, Note.KEPT).touch()
    except OSError as error:
        log.warning("stop_not_noted", error=str(error))


def take_note(folder: Path, session: int, note: Note) -> bool:
    """Take a note of the process of this session; False: it left none."""
    try:
        _path(folder, session, note).unlink()
    except OSError:
        return False
    return True


def _path(folder: Path, session: int, note: Note) -> Path:
    return folder / f"{session}.{note}"
