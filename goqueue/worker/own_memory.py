"""How much memory this process has for itself."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["own_memory_bytes"]

_STATM = Path("/proc/self/statm")


def own_memory_bytes() -> int | None:
    """What is in memory and no file's: libraries are shared by all processes. None where nothing tells it.

    Some microseconds.
    """
    try:
        _, resident, shared, *_ = _STATM.read_text().split()
        return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None
