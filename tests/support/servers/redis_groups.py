"""Several Valkeys that belong together: behind Sentinels, and as a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import redis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from goqueue.dev.embedded import HOST, EmbeddedValkey, free_port
from tests.support.waiting import wait_until

SERVICE = "runways"

#: How soon the others think that a server is gone.
SILENCE_MS = 500


class EmbeddedSentinel(EmbeddedValkey):
    """A Sentinel that knows its group, so that nobody waits until it has found out.

    Args:
        folder: its log and its configuration.
        number: which of the Sentinels it is.
        ports: of all Sentinels.
        servers: the primary and its replica.
    """

    def __init__(
        self, folder: Path, number: int, ports: Sequence[int], servers: Sequence[EmbeddedValkey]
    ) -> None:
        super().__init__(folder, port=ports[number])
        self._number = number
        self._ports = ports
        self._servers = servers

    def _command(self) -> list[str]:
        program = super()._command()[0]
        configuration = self.folder / "sentinel.conf"
        configuration.write_text("\n".join(self._configuration()) + "\n")
        return [program, str(configuration), "--sentinel"]

    def _configuration(self) -> list[str]:
        primary, replica = self._servers
        return [
            *(f"port {self.port}", f"bind {HOST}", f"dir {self.folder}"),
            *("pidfile valkey.pid", "set-proc-title no", f"sentinel myid {self._number:040x}"),
            f"sentinel monitor {SERVICE} {HOST} {primary.port} 2",
            f"sentinel down-after-milliseconds {SERVICE} {SILENCE_MS}",
            f"sentinel failover-timeout {SERVICE} 3000",
            f"sentinel known-replica {SERVICE} {HOST} {replica.port}",
            *(
                f"sentinel known-sentinel {SERVICE} {HOST} {port} {number:040x}"
                for number, port in enumerate(self._ports)
                if number != self._number
            ),
        ]


class SentinelGroup:
    """A primary, its replica, and three Sentinels."""

    def __init__(self, folder: Path) -> None:
        self.primary = EmbeddedValkey(folder / "primary")
        self._folder = folder
        self._servers: list[EmbeddedValkey] = [self.primary]

    def __enter__(self) -> Self:
        self.primary.start()
        replication = {"replicaof": f"{HOST} {self.primary.port}", "repl-diskless-sync-delay": "0"}
        self._servers.append(EmbeddedValkey(self._folder / "replica", settings=replication))
        pair, ports = self._servers[:2], [free_port() for _ in range(3)]
        self._servers += [EmbeddedSentinel(self._folder / f"s{n}", n, ports, pair) for n in range(3)]
        try:
            for server in self._servers:
                server.start()
            self._wait_until_watched()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for server in reversed(self._servers):
            server.stop(graceful=False)

    @property
    def url(self) -> str:
        """The value of `GOQUEUE_REDIS_URL`."""
        sentinels = ",".join(f"{HOST}:{server.port}" for server in self._servers[2:])
        return f"redis+sentinel://{sentinels}/{SERVICE}/0"

    def _wait_until_watched(self) -> None:
        for server in self._servers[2:]:
            with redis.Redis(host=HOST, port=server.port) as client:
                wait_until(lambda client=client: _sees_all(client), what="a Sentinel to see all")  # type: ignore[misc]


class ClusterGroup:
    """Three primaries, and one replica of the first."""

    PRIMARIES = 3

    def __init__(self, folder: Path) -> None:
        self.nodes = [EmbeddedValkey(folder / f"n{n}") for n in range(self.PRIMARIES + 1)]

    def __enter__(self) -> Self:
        try:
            for node in self.nodes:
                node.settings |= {
                    "cluster-enabled": "yes",
                    "cluster-node-timeout": str(SILENCE_MS),
                    "cluster-port": str(free_port()),
                    "cluster-replica-validity-factor": "0",
                    "cluster-require-full-coverage": "no",
                    "databases": "1",
                    "repl-diskless-sync-delay": "0",
                }
                node.start()
            self._join()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for node in self.nodes:
            node.stop(graceful=False)

    @property
    def url(self) -> str:
        """The value of `GOQUEUE_REDIS_URL`: two of the nodes, one that dies and one that does not."""
        return f"redis+cluster://{HOST}:{self.nodes[0].port},{HOST}:{self.nodes[1].port}"

    def node_of(self, key: str) -> int:
        """Find the primary that was given the slot of a key."""
        return key_slot(key.encode()) * self.PRIMARIES // REDIS_CLUSTER_HASH_SLOTS

    def _join(self) -> None:
        clients = [redis.Redis(host=HOST, port=node.port) for node in self.nodes]
        slots = REDIS_CLUSTER_HASH_SLOTS
        for number, client in enumerate(clients[: self.PRIMARIES]):
            first = -(-number * slots // self.PRIMARIES)
            last = -(-(number + 1) * slots // self.PRIMARIES) - 1
            _cluster(client, "ADDSLOTSRANGE", first, last)
            _cluster(client, "SET-CONFIG-EPOCH", number + 1)
        for node in self.nodes[1:]:
            _cluster(clients[0], "MEET", HOST, node.port, node.settings["cluster-port"])
        for client in clients:
            wait_until(lambda client=client: _knows(client, len(clients)), what="a node to know all")  # type: ignore[misc]
        primary = _cluster(clients[0], "MYID")
        _cluster(clients[-1], "REPLICATE", primary)
        wait_until(lambda: _replicates(clients[-1]), what="the replica to follow its primary")
        for client in clients:
            wait_until(lambda client=client: _is_whole(client), what="a whole cluster")  # type: ignore[misc]
            client.close()


def _cluster(client: redis.Redis, *arguments: Any) -> Any:
    return client.execute_command("CLUSTER", *arguments)  # type: ignore[no-untyped-call]


def _sees_all(sentinel: redis.Redis) -> bool:
    masters: Any = sentinel.sentinel_masters()
    state = masters[SERVICE]
    return bool(state["num-slaves"] == 1 and state["num-other-sentinels"] == 2 and not state["is_sdown"])


def _knows(client: redis.Redis, count: int) -> bool:
    info: bytes = _cluster(client, "NODES")
    lines = info.decode().splitlines() if isinstance(info, bytes) else list(info)
    return len(lines) == count and not any("handshake" in str(line) for line in lines)


def _replicates(client: redis.Redis) -> bool:
    return client.info("replication").get("master_link_status") == "up"


def _is_whole(client: redis.Redis) -> bool:
    info: Any = _cluster(client, "INFO")
    return b"cluster_state:ok" in info if isinstance(info, bytes) else info["cluster_state"] == "ok"
