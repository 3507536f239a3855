"""The keys of the runways as Redis has them, for tests that wipe them, spoil them or make them older."""

from __future__ import annotations

from goqueue.config.settings import Settings
from goqueue.engine.runway.servers import connect


class BareRunway:
    """Reaches what lies in Redis with plain commands, past the code that is tested.

    Attributes:
        redis: a client of the server.
    """

    def __init__(self, settings: Settings) -> None:
        self._namespace = settings.key_prefix
        self.redis = connect(settings)

    def key(self, name: str, queue: str = "default") -> str:
        """Return the key of a queue's `runway`, `messages` or `gate`."""
        return f"{self._namespace}:{{{queue}}}:{name}"

    def wipe(self) -> None:
        """Delete everything, as a FLUSHALL would, of this namespace alone."""
        keys = self.redis.keys(f"{self._namespace}:*")
        if keys:
            self.redis.delete(*keys)

    def close(self) -> None:
        """Close the connections to Redis."""
        self.redis.close()
