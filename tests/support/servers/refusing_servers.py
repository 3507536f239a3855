"""Servers that a test makes refuse, each refusal in the way in which it happens, and what ends it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Self

import pytest
import redis
from pydantic import SecretStr

from goqueue.dev.embedded import HOST, EmbeddedValkey, free_port
from tests.support.servers.tcp_proxy import TcpProxy
from tests.support.waiting import wait_until

LOGIN = "worker:secret"


class Servers:
    """The servers of this module, each with a connection that may do everything and stays open."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.single = EmbeddedValkey(
            folder / "single",
            settings={"busy-reply-threshold": "1", "enable-protected-configs": "yes"},
        )
        self.node = EmbeddedValkey(
            folder / "node",
            settings={"cluster-enabled": "yes", "cluster-port": str(free_port()), "databases": "1"},
        )

    def __enter__(self) -> Self:
        self.single.start()
        self.node.start()
        self.warden = redis.Redis(host=HOST, port=self.single.port, single_connection_client=True)
        self.of_node = redis.Redis(host=HOST, port=self.node.port, single_connection_client=True)
        self.proxy = TcpProxy(self.single.port)
        self.do("ACL", "SETUSER", "worker", "on", ">secret", "~*", "&*", "+@all")
        self.of_node.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)  # type: ignore[no-untyped-call]
        wait_until(lambda: b"cluster_state:ok" in self.cluster("INFO"), what="the cluster")
        return self

    def __exit__(self, *_: object) -> None:
        self.proxy.close()
        self.warden.close()
        self.of_node.close()
        self.single.kill()
        self.node.kill()

    def do(self, *command: str) -> Any:
        """Run a command on the single server."""
        return self.warden.execute_command(*command)  # type: ignore[no-untyped-call]

    def cluster(self, *command: str | int) -> Any:
        """Run a CLUSTER command on the node."""
        answer: Any = self.of_node.execute_command("CLUSTER", *command)  # type: ignore[no-untyped-call]
        return str(answer).encode() if isinstance(answer, dict) else answer

    def begin_script(self) -> None:
        """Run a script without end on a connection of its own; nobody waits for its answer."""
        self.script = redis.Connection(host=HOST, port=self.single.port)  # type: ignore[no-untyped-call]
        self.script.send_command("EVAL", "while true do end", "0")  # type: ignore[no-untyped-call]

    def kick(self) -> None:
        """Close the connections of everybody else, so that they have to log in again."""
        self.do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    def end_script(self) -> None:
        """End the endless script, and read that it was ended."""
        self.do("SCRIPT", "KILL")
        with pytest.raises(redis.ResponseError, match="killed"):
            self.script.read_response()
        self.script.disconnect()  # type: ignore[no-untyped-call]

    def lose_disk(self) -> None:
        """Let a snapshot fail: its folder is gone."""
        gone = self.folder / "gone"
        gone.mkdir()
        self.do("CONFIG", "SET", "dir", str(gone), "save", "3600 1")
        shutil.rmtree(gone)
        self.do("BGSAVE")
        wait_until(lambda: self.warden.info("persistence")["rdb_last_bgsave_status"] == "err")


class Refusal(NamedTuple):
    """A way to make a server refuse, and the one that ends it.

    Attributes:
        place: which URL the roles have: that of a login, of nobody, through the proxy, or of the cluster.
        pauses: fetching pauses meanwhile; else it goes on.
        postpones: the dispatcher's round fails meanwhile.
    """

    begin: Callable[[Servers], object]
    end: Callable[[Servers], object]
    place: str = "login"
    pauses: bool = True
    postpones: bool = True


def in_turn(*calls: Callable[[Servers], object]) -> Callable[[Servers], object]:
    """One after the other."""
    return lambda servers: [call(servers) for call in calls]


def command(*words: str) -> Callable[[Servers], object]:
    """Run a command on the single server."""
    return lambda servers: servers.do(*words)


def says(line: str) -> Refusal:
    """A server that answers everything with this line."""
    return Refusal(lambda servers: servers.proxy.refuse(line), lambda servers: servers.proxy.heal(), "proxy")


REFUSALS: dict[str, Refusal] = {
    "LOADING": says("LOADING Valkey is loading the dataset in memory"),
    "TRYAGAIN": says("TRYAGAIN Multiple keys request during rehashing of slot"),
    "MISCONF": Refusal(Servers.lose_disk, command("CONFIG", "SET", "save", "")),
    "OOM": Refusal(
        command("CONFIG", "SET", "maxmemory", "1mb"),
        command("CONFIG", "SET", "maxmemory", "0"),
        pauses=False,
    ),
    "CLUSTERDOWN": Refusal(
        lambda servers: servers.cluster("DELSLOTS", 0),
        lambda servers: servers.cluster("ADDSLOTS", 0),
        "cluster",
    ),
    "MASTERDOWN": Refusal(
        in_turn(command("CONFIG", "SET", "replica-serve-stale-data", "no"), command("REPLICAOF", HOST, "1")),
        command("REPLICAOF", "NO", "ONE"),
    ),
    "NOAUTH": Refusal(
        in_turn(command("CONFIG", "SET", "requirepass", "changed"), Servers.kick),
        command("CONFIG", "SET", "requirepass", ""),
        "nobody",
    ),
    "WRONGPASS": Refusal(
        in_turn(command("ACL", "SETUSER", "worker", "resetpass", ">changed"), Servers.kick),
        command("ACL", "SETUSER", "worker", ">secret"),
    ),
    "NOPERM": Refusal(
        command("ACL", "SETUSER", "worker", "-@all"), command("ACL", "SETUSER", "worker", "+@all")
    ),
    "NOPERM in the script": Refusal(
        command("ACL", "SETUSER", "worker", "-rpush", "-lpush"),
        command("ACL", "SETUSER", "worker", "+@all"),
        pauses=False,
    ),
    "BUSY": Refusal(Servers.begin_script, Servers.end_script),
    "NOSCRIPT": Refusal(command("SCRIPT", "FLUSH"), command("PING"), pauses=False, postpones=False),
    "max number of clients": Refusal(
        in_turn(command("CONFIG", "SET", "maxclients", "1"), Servers.kick),
        command("CONFIG", "SET", "maxclients", "1000"),
    ),
}


def url_of(servers: Servers, place: str) -> SecretStr:
    """Return the value of `GOQUEUE_REDIS_URL`."""
    return SecretStr(
        {
            "login": f"redis://{LOGIN}@{HOST}:{servers.single.port}/0",
            "nobody": f"redis://{HOST}:{servers.single.port}/0",
            "proxy": f"redis://{LOGIN}@{HOST}:{servers.proxy.port}/0",
            "cluster": f"redis+cluster://{HOST}:{servers.node.port}",
        }[place]
    )
