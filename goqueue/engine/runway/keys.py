"""The keys of a queue in Redis, and the servers that hold them. `push.lua` documents them."""

from __future__ import annotations

from goqueue.config.settings import Settings
from goqueue.engine.runway.servers import open_servers

#: How long sending a push may take, which waits for room in the system's buffers at most.
PUSH_TIMEOUT_SECONDS = 0.25


class RunwayKeys:
    """Knows the keys of every queue, and has the connections to whoever holds them."""

    def __init__(self, settings: Settings) -> None:
        self._prefix = settings.key_prefix
        self._default_limit = settings.runway_min
        self._lost_push_ms = int(settings.lost_push_seconds * 1000)
        self._servers = open_servers(settings)
        # Nobody waits for these: what is not sent at once is left to the dispatcher.
        self._pushing = open_servers(
            settings, timeout_seconds=min(PUSH_TIMEOUT_SECONDS, settings.redis_timeout_seconds)
        )
        # A blocking call is silent for as long as it blocks, so its time-out is longer by that.
        self._blocking = open_servers(
            settings,
            timeout_seconds=max(settings.fetch_block_seconds, settings.dispatch_idle_seconds)
            + settings.redis_timeout_seconds,
        )

    @property
    def _dispatcher_key(self) -> str:
        return f"{self._prefix}:dispatcher"

    def _push_keys(self, queue: str) -> list[str]:
        return [self._key(queue, name) for name in ("runway", "messages", "gate")]

    def _key(self, queue: str, name: str) -> str:
        # A cluster hashes the text between the first braces, and all of the key where that text is empty. No
        # name of a queue has a control character.
        tag = f"\x7f{queue}" if queue.startswith("}") else queue
        return f"{self._prefix}:{{{tag}}}:{name}"


def lane_of(name: str, signature: str | None) -> str:
    """Name the list of this kind for workers of one signature, or for all."""
    return f"{name}:{signature}" if signature else name
