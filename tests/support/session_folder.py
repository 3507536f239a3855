"""The temporary folder of a session of tests, and the end of those that earlier sessions left behind."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path

PREFIX = "goqueue-tests-"

#: Another session may have made its folder just now, and not locked it yet.
YOUNG_SECONDS = 60.0


class SessionFolder:
    """A folder that is locked for as long as this process lives, however it ends.

    A session that failed leaves its folder for whoever wants to look, and one that was killed for nobody. In
    memory a few of them took all the room that there was, and the tests fell back on the disk.
    """

    def __init__(self, parent: Path | None) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        # It is let go when the process ends.
        self._descriptor = os.open(self.path, os.O_RDONLY)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def remove(self) -> None:
        """Remove the folder with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)

    def close(self) -> None:
        """Let go of the folder, which stays."""
        os.close(self._descriptor)


def remove_left_folders(parent: Path) -> None:
    """Remove the folders of sessions that have ended."""
    for folder in parent.glob(f"{PREFIX}*"):
        if _is_left(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _is_left(folder: Path) -> bool:
    try:
        if time.time() - folder.stat().st_mtime < YOUNG_SECONDS:
            return False
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
