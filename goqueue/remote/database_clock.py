"""PostgreSQL's clock, as this process knows it without asking each time."""

from __future__ import annotations

import time

from goqueue.db.database import Database
from goqueue.db.statements import current_time

__all__ = ["DatabaseClock"]

#: After this it is asked again, unless somebody has heard it meanwhile.
ASKED_AGAIN_SECONDS = 60.0


class DatabaseClock:
    """Knows what PostgreSQL's clock, in seconds since 1970, is ahead of this machine's monotonic one."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._ahead = 0.0
        self._good_until = 0.0

    def hear(self, seconds: float) -> None:
        """Note what PostgreSQL said just now."""
        now = time.monotonic()
        self._ahead, self._good_until = seconds - now, now + ASKED_AGAIN_SECONDS

    @property
    def ahead(self) -> float:
        """Tell by how much it is ahead.

        Raises:
            DatabaseUnavailableError: PostgreSQL does not answer, and has not said it for a while.
        """
        if time.monotonic() >= self._good_until:
            with self._database.autocommit() as connection:
                self.hear(current_time(connection).timestamp())
        return self._ahead
