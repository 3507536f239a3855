"""The URL that says where Redis is: a server, the primary that Sentinels know, or a cluster."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit, urlunsplit

__all__ = ["RedisAddress", "RedisHost", "parse_redis_url"]

RedisHost = tuple[str, int]

SCHEMES = (
    "redis",
    "rediss",
    "unix",
    "redis+sentinel",
    "rediss+sentinel",
    "redis+cluster",
    "rediss+cluster",
)
DEFAULT_PORTS = {"sentinel": 26379, "cluster": 6379}
SENTINEL_OPTIONS = ("sentinel_username", "sentinel_password")

_NUMBER, _SECONDS, _BOOL, _TEXT = (
    r"[0-9]{1,4}",
    r"[0-9]{1,6}(\.[0-9]{1,6})?",
    r"(?i:true|false|yes|no|1|0)",
    r".+",
)
_EXPECTED = {_NUMBER: "a number", _SECONDS: "a number of seconds", _BOOL: "true or false", _TEXT: "a value"}

#: What redis-py reads in a query. Not what would let it repeat a command by itself.
_OPTIONS = {
    "db": _NUMBER,
    "protocol": r"[23]",
    "max_connections": _NUMBER,
    "socket_timeout": _SECONDS,
    "socket_connect_timeout": _SECONDS,
    "socket_keepalive": _BOOL,
    "username": _TEXT,
    "password": _TEXT,
    "client_name": _TEXT,
    "ssl_keyfile": _TEXT,
    "ssl_certfile": _TEXT,
    "ssl_password": _TEXT,
    "ssl_cert_reqs": r"none|optional|required",
    "ssl_ca_certs": _TEXT,
    "ssl_ca_path": _TEXT,
    "ssl_ca_data": _TEXT,
    "ssl_ciphers": _TEXT,
    "ssl_check_hostname": _BOOL,
}
_EXPECTED |= {_OPTIONS["protocol"]: "2 or 3", _OPTIONS["ssl_cert_reqs"]: "none, optional or required"}

_HOST = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^\[\]:@/\s]+)(?::(?P<port>[0-9]{1,5}))?")


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """The address of Redis: its servers, and how one of them is reached.

    Attributes:
        kind: a server whose address is fixed; one that Sentinels name; a cluster.
        url: a URL of redis-py, of the (first) server; behind Sentinel its host means nothing.
        hosts: the Sentinels, or nodes of the cluster; none where the server is fixed.
        service: what the Sentinels call the primary.
        sentinel_login: user name and password of the Sentinels themselves, each where there is one.
    """

    kind: Literal["server", "sentinel", "cluster"]
    url: str
    hosts: tuple[RedisHost, ...] = ()
    service: str = ""
    sentinel_login: tuple[str | None, str | None] = (None, None)


def parse_redis_url(text: str) -> RedisAddress:
    """Read the URL of `GOQUEUE_REDIS_URL`.

    Raises:
        ValueError: with what was expected; never with a password.
    """
    parts = urlsplit(text)
    if parts.scheme not in SCHEMES:
        raise ValueError(
            f"expected a URL with one of the schemes {', '.join(sorted(SCHEMES))}, got {parts.scheme!r}"
        )
    scheme, _, kind = parts.scheme.partition("+")
    _refuse_wrong_options(scheme, parts.query, {"sentinel": SENTINEL_OPTIONS}.get(kind, ()))
    if not kind:
        _refuse_wrong_server(parts)
        return RedisAddress("server", text)
    login, at, netloc = parts.netloc.rpartition("@")
    hosts = _hosts(netloc, DEFAULT_PORTS[kind])
    path = unquote(parts.path).strip("/").split("/")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    sentinel_login = tuple(options.pop(name, None) for name in SENTINEL_OPTIONS)
    database = _database(path[1:] if kind == "sentinel" else path)
    server = f"{login}{at}{netloc.split(',')[0]}"
    url = urlunsplit((scheme, server, f"/{database}", urlencode(options), ""))
    if kind == "sentinel":
        if not path[0]:
            raise ValueError("expected what the Sentinels call the primary: redis+sentinel://host,host/name")
        return RedisAddress("sentinel", url, hosts, path[0], (sentinel_login[0], sentinel_login[1]))
    if database:
        raise ValueError("expected no database: a cluster has but one")
    return RedisAddress("cluster", url, hosts)


def _refuse_wrong_server(parts: SplitResult) -> None:
    """Refuse what redis-py would take for another server or database, or stumble over when it connects."""
    if parts.scheme == "unix":
        if not parts.path.strip("/"):
            raise ValueError("expected the path of a socket: unix:///run/redis.sock")
        return
    netloc = parts.netloc.rpartition("@")[2]
    # Without a host it is this machine.
    if netloc and not netloc.startswith(":"):
        _hosts(netloc, DEFAULT_PORTS["cluster"])
    elif netloc:
        _hosts(f"localhost{netloc}", DEFAULT_PORTS["cluster"])
    if "," in netloc:
        raise ValueError("expected one host: several are redis+sentinel://… or redis+cluster://…")
    _database([parts.path.strip("/")] if parts.path.strip("/") else [])


def _refuse_wrong_options(scheme: str, query: str, further: tuple[str, ...]) -> None:
    for name, value in parse_qsl(query, keep_blank_values=True):
        known = _OPTIONS.get(name) or (_TEXT if name in further else None)
        if known is None or (name.startswith("ssl_") and scheme != "rediss"):
            raise ValueError(f"there is no option {name!r} for {scheme}://")
        if not re.fullmatch(known, value):
            raise ValueError(f"{name}: expected {_EXPECTED[known]}")


def _hosts(netloc: str, default_port: int) -> tuple[RedisHost, ...]:
    found = [_HOST.fullmatch(part) for part in netloc.split(",")]
    hosts = [(match["host"].strip("[]"), int(match["port"] or default_port)) for match in found if match]
    if len(hosts) < len(found) or not all(0 < port <= 65535 for _, port in hosts):  # noqa: PLR2004  (the greatest port)
        raise ValueError("expected hosts, comma separated, each as host or host:port")
    return tuple(hosts)


def _database(path: list[str]) -> int:
    text = "/".join(path) or "0"
    if not re.fullmatch(r"[0-9]{1,4}", text):
        raise ValueError("expected the number of a database at the end of the path, or nothing")
    return int(text)
