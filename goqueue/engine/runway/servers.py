"""The Redis servers that hold the runways: one, one that Sentinels name, or the primaries of a cluster.

All keys of a queue share a hash tag, so one server holds them; whatever is done to a queue is done on a plain
connection to that server. So a cluster needs nothing but to know which server that is, and every command,
script and transaction is the same as on a single server.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, cast

import redis
from redis.backoff import NoBackoff
from redis.connection import ConnectionPool, SSLConnection, parse_url
from redis.crc import key_slot
from redis.retry import Retry
from redis.sentinel import Sentinel

from goqueue.config.redis_url import RedisAddress, RedisHost, parse_redis_url
from goqueue.config.settings import Settings
from goqueue.errors import RedisUnavailableError

__all__ = ["RedisServers", "connect", "milliseconds", "open_servers", "translated"]

#: Refusals that end when a person changes a setting, of Redis or of GoQueue.
_LOGIN_ERRORS = (
    redis.AuthenticationError,
    redis.exceptions.AuthorizationError,
    redis.exceptions.NoPermissionError,
)
#: The same by their texts: redis-py has no class for them. The second is a NOPERM within a script.
_LASTING = ("DB index is out of range", "ACL failure in script")

#: First slot, last slot, and the primary that serves them.
_SlotRange = tuple[int, int, RedisHost]


class RedisServers(Protocol):
    """Knows which server holds a key. Nothing connects before the first use."""

    def holding(self, key: str) -> redis.Redis:
        """The server that holds this key, and every key with its hash tag.

        Raises:
            redis.RedisError: no server says which one.
        """

    def known(self, key: str) -> redis.Redis | None:
        """Find the server as `holding` does, without asking anybody; None: somebody has to be asked."""

    def each(self) -> list[redis.Redis]:
        """List every server that may hold a key.

        Raises:
            redis.RedisError: no server says which ones.
        """

    def doubt(self) -> None:
        """Note that a command failed: which server holds what is to be asked anew."""

    def replace_connections(self) -> None:
        """Close what lies idle: a server refused a command, and may not be the one to ask any more."""

    def close(self) -> None:
        """Close every connection to them."""


def connect(settings: Settings) -> redis.Redis:
    """A client of the one server, of the primary behind Sentinel, or of the first node of a cluster."""
    return _client_of(parse_redis_url(settings.redis_url.get_secret_value()), _options(settings, None))


def open_servers(settings: Settings, *, timeout_seconds: float | None = None) -> RedisServers:
    """The servers of `redis_url`, on clients that never retry by themselves.

    redis-py's default repeats a command whose answer was lost: a fetch would lose what the first one popped,
    and a push would be repeated after it was already fetched. Whoever may repeat safely does so itself.

    Args:
        settings: the URL and the time-outs.
        timeout_seconds: how long an answer may take, instead of the setting's time.
    """
    address = parse_redis_url(settings.redis_url.get_secret_value())
    options = _options(settings, timeout_seconds)
    if address.kind == "cluster":
        return _Cluster(address, options)
    return _OneServer(_client_of(address, options))


@contextmanager
def translated(servers: RedisServers) -> Iterator[None]:
    """Make every error of redis-py the one of ours, and let the servers doubt what they know.

    A refusal is an outage as well: a primary that was demoted (READONLY, UNBLOCKED, MASTERDOWN), that loads
    its data, or that takes no writes for want of memory, of a disk or of replicas. The connection is good,
    and leads to the wrong server: it is replaced. So is a login or a permission that somebody changed: they
    may change it back, and until then the error says whose turn it is.

    Raises:
        RedisUnavailableError: Redis did not do it, or did not say that it did.
    """
    try:
        yield
    except redis.RedisError as error:
        servers.doubt()
        if isinstance(error, redis.ResponseError):
            servers.replace_connections()
        needs_a_person = isinstance(error, _LOGIN_ERRORS) or any(text in str(error) for text in _LASTING)
        raise RedisUnavailableError(
            f"Redis: {_with_its_word(error)}", needs_a_person=needs_a_person
        ) from error


def _with_its_word(error: redis.RedisError) -> str:
    """What Redis said, with the word that names its kind (OOM, NOPERM, …): redis-py takes some off."""
    word, text = getattr(error, "status_code", None), str(error)
    return text if not word or text.startswith(word) else f"{word} {text}"


def milliseconds(time: tuple[int, int]) -> int:
    """Read what Redis's TIME says, in milliseconds."""
    seconds, microseconds = time
    return seconds * 1000 + microseconds // 1000


class _OneServer:
    """One server, wherever it is at the moment: a client of Sentinel asks for each new connection."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def holding(self, key: str) -> redis.Redis:  # noqa: ARG002  (it holds every key)
        """Return the server, which holds every key."""
        return self._client

    def known(self, key: str) -> redis.Redis | None:  # noqa: ARG002  (it holds every key)
        """Return the server, which holds every key."""
        return self._client

    def each(self) -> list[redis.Redis]:
        """Return the one server in a list."""
        return [self._client]

    def doubt(self) -> None:
        """Nothing to ask: a broken connection is replaced by a new one."""

    def replace_connections(self) -> None:
        """Close those that lie idle; one that is in use hears the same refusal."""
        self._client.connection_pool.disconnect(inuse_connections=False)

    def close(self) -> None:
        """Close every connection to them."""
        self._client.close()


class _Cluster:
    """The primaries of a cluster; after a failed command it asks for the slots again. Thread-safe."""

    def __init__(self, address: RedisAddress, options: dict[str, Any]) -> None:
        self._seeds = address.hosts
        self._address = address
        self._options = options
        self._lock = threading.Lock()
        self._clients: dict[RedisHost, redis.Redis] = {}
        self._slots: list[_SlotRange] = []
        self._doubted = False

    def holding(self, key: str) -> redis.Redis:
        """The primary that serves the key's slot."""
        host = _host_of(key, self._known_slots())
        if host is not None:
            return self._client(host)
        self.doubt()
        raise redis.ConnectionError(f"no node of the cluster serves the slot of {key!r}")

    def known(self, key: str) -> redis.Redis | None:
        """The same, by the slots as they were told last, unless they are doubted."""
        host = None if self._doubted else _host_of(key, self._slots)
        return None if host is None else self._client(host)

    def each(self) -> list[redis.Redis]:
        """Every primary that serves slots."""
        hosts = dict.fromkeys(host for _, _, host in self._known_slots())
        return [self._client(host) for host in hosts]

    def doubt(self) -> None:
        """Ask for the slots before the next command."""
        self._doubted = True

    def replace_connections(self) -> None:
        """Close those that lie idle, to all nodes."""
        with self._lock:
            for client in self._clients.values():
                client.connection_pool.disconnect(inuse_connections=False)

    def close(self) -> None:
        """Close the connections to all nodes."""
        with self._lock:
            for client in self._clients.values():
                client.close()

    def _known_slots(self) -> list[_SlotRange]:
        if self._slots and not self._doubted:
            return self._slots
        self._doubted = False
        try:
            self._slots = self._ask_for_slots()
        except redis.RedisError:
            self._doubted = True
            raise
        return self._slots

    def _ask_for_slots(self) -> list[_SlotRange]:
        hosts = list({*self._seeds, *(host for _, _, host in self._slots)})
        # Not always the same one first: it may hang, or be cut off and answer what was true once.
        random.shuffle(hosts)
        refusal: redis.RedisError | None = None
        for host in hosts:
            try:
                answer = self._client(host).execute_command("CLUSTER", "SLOTS")  # type: ignore[no-untyped-call]
                return [_slot_range(entry, host) for entry in answer]
            except (redis.ResponseError, *_LOGIN_ERRORS) as error:
                refusal = error
            except redis.RedisError:
                continue
        raise refusal or redis.ConnectionError("no node of the cluster answers")

    def _client(self, host: RedisHost) -> redis.Redis:
        with self._lock:
            if host not in self._clients:
                self._clients[host] = _client_of_node(self._address, host, self._options)
            return self._clients[host]


def _host_of(key: str, slots: list[_SlotRange]) -> RedisHost | None:
    slot = key_slot(key.encode())
    return next((host for first, last, host in slots if first <= slot <= last), None)


def _slot_range(entry: Any, asked: RedisHost) -> _SlotRange:
    """One entry of CLUSTER SLOTS; a node that does not know how it is called is the one that was asked."""
    first, last, (name, port, *_) = entry[:3]
    text = name.decode() if isinstance(name, bytes) else name
    return first, last, (text or asked[0], port)


def _options(settings: Settings, timeout_seconds: float | None) -> dict[str, Any]:
    return {
        "socket_timeout": timeout_seconds or settings.redis_timeout_seconds,
        "socket_connect_timeout": settings.redis_timeout_seconds,
        "socket_keepalive": True,
        "health_check_interval": 0,
        "retry": Retry(NoBackoff(), 0),
        "retry_on_error": [],
    }


def _client_of(address: RedisAddress, options: dict[str, Any]) -> redis.Redis:
    if address.kind == "sentinel":
        return _behind_sentinel(address, options)
    if address.url.startswith("unix:"):
        # A socket of this machine has no keep-alive; redis-py would stumble over it.
        options = {name: value for name, value in options.items() if name != "socket_keepalive"}
    return redis.Redis.from_url(address.url, **options)


def _client_of_node(address: RedisAddress, host: RedisHost, options: dict[str, Any]) -> redis.Redis:
    of_node = {**options, **_parse_url(address.url), "host": host[0], "port": host[1]}
    return redis.Redis.from_pool(ConnectionPool(**of_node))


def _parse_url(url: str) -> dict[str, Any]:
    return dict(parse_url(url))  # type: ignore[no-untyped-call]


def _behind_sentinel(address: RedisAddress, options: dict[str, Any]) -> redis.Redis:
    of_url = _parse_url(address.url)
    encrypted = of_url.pop("connection_class", None) is SSLConnection
    for name in ("host", "port"):
        of_url.pop(name, None)
    user, password = address.sentinel_login
    # Sentinels answer at once or not at all: a long wait for work is none for them.
    patience = {**options, "socket_timeout": options["socket_connect_timeout"]}
    of_sentinel = {**patience, "username": user, "password": password}
    if encrypted:
        of_sentinel |= {name: value for name, value in of_url.items() if name.startswith("ssl_")}
        of_sentinel["ssl"] = True
    sentinel = Sentinel(address.hosts, sentinel_kwargs=of_sentinel)  # type: ignore[no-untyped-call]
    client = sentinel.master_for(address.service, ssl=encrypted, **{**options, **of_url})  # type: ignore[no-untyped-call]
    return cast("redis.Redis", client)
