"""The threads that a worker process has of its own, besides Dramatiq's."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod


class BackgroundThread(ABC):
    """One daemon thread, and what runs in it.

    Args:
        name: what the thread is called.
    """

    def __init__(self, name: str) -> None:
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def is_alive(self) -> bool:
        """Tell whether the thread runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the thread of this object."""
        self._thread.start()

    @abstractmethod
    def _run(self) -> None:
        """Work until the end, in the thread."""
