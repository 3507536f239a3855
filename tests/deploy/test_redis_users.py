"""What the Redis user of deploy/redis/users.acl may do, and what it may not."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr
from redis.backoff import NoBackoff
from redis.retry import Retry

import goqueue
from goqueue.api.queues import PauseRequest
from goqueue.config.settings import Settings
from goqueue.dev.embedded import HOST, EmbeddedValkey
from goqueue.limits.flow_control import FlowControl
from goqueue.ops.checks import check_redis
from tests.support.engine import QUICK, Engine, process_of

USERS = Path(__file__).parents[2] / "deploy" / "redis" / "users.acl"
PASSWORD = "a-password-of-the-tests"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    """A Valkey with the users of the deployment, and one that may do everything, for the test alone."""
    folder = tmp_path_factory.mktemp("guarded")
    users = USERS.read_text().replace("PASSWORD_SHA256", hashlib.sha256(PASSWORD.encode()).hexdigest())
    (folder / "users.acl").write_text(users + "user warden on nopass ~* &* +@all\n")
    server = GuardedValkey(folder, settings={"aclfile": str(folder / "users.acl")})
    with server:
        yield server


class GuardedValkey(EmbeddedValkey):
    """One that answers nobody without a password: the refusal is its sign of life."""

    def _answers(self) -> bool:
        with redis.Redis(host=HOST, port=self.port, username="warden", password="any") as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False


@pytest.fixture
def guarded_settings(settings: Settings, guarded: EmbeddedValkey) -> Settings:
    """Settings of the deployment's user; its namespace is the one that the file allows."""
    url = f"redis://goqueue:{PASSWORD}@{HOST}:{guarded.port}/0"
    return settings.model_copy(update={**QUICK, "redis_url": SecretStr(url), "namespace": "goqueue"})


@pytest.fixture
def client(guarded: EmbeddedValkey) -> Iterator[redis.Redis]:
    """A client with the deployment's user."""
    with redis.Redis(host=HOST, port=guarded.port, username="goqueue", password=PASSWORD) as client:
        yield client


def test_the_engine_needs_no_more_than_its_user_may(
    guarded_settings: Settings, guarded: EmbeddedValkey
) -> None:
    """Creating, dispatching, running, pausing and checking work, and Redis refuses none of their commands."""
    check_redis(guarded_settings)
    with process_of(guarded_settings) as broker:

        @goqueue.actor(queue="guarded")
        def double(value: int) -> int:
            return value * 2

        with Engine(broker) as engine:
            flow = FlowControl(
                broker.database,
                broker.runway,
                declared_queues=lambda: {"guarded"},
                knows_type=broker.job_types.__contains__,
                job_type=broker.job_type,
            )
            jobs = [goqueue.enqueue(double, {"value": number}) for number in range(200)]
            for job_id in jobs:
                engine.wait_for(job_id)
            flow.pause("guarded", PauseRequest())
            late = goqueue.enqueue(double, {"value": 1})
            flow.resume("guarded")
            engine.wait_for(late)
            broker.runway.lengths(["guarded"])
            broker.runway.forget_older_than("guarded", 600)
            broker.runway.wake_dispatcher()
            broker.runway.ping()
    refused = {entry["object"] for entry in refusals(guarded) if entry["username"] == "goqueue"}
    # The check of the eviction policy and the name of the client library are courtesies.
    assert refused <= {"config|get", "client|setinfo", "client|maint_notifications"}


@pytest.mark.parametrize(
    "command",
    [
        ("FLUSHALL",),
        ("FLUSHDB",),
        ("CONFIG", "GET", "maxmemory"),
        ("CONFIG", "SET", "maxmemory", "1"),
        ("KEYS", "*"),
        ("SCAN", "0"),
        ("ACL", "LIST"),
        ("SHUTDOWN",),
        ("REPLICAOF", "NO", "ONE"),
        ("FUNCTION", "LIST"),
        ("MONITOR",),
        ("PUBLISH", "channel", "text"),
    ],
    ids=" ".join,
)
def test_what_no_runway_needs_is_refused(client: redis.Redis, command: tuple[str, ...]) -> None:
    """The user may not empty, reconfigure, spy on or stop the server."""
    with pytest.raises(redis.exceptions.NoPermissionError):
        client.execute_command(*command)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    "command",
    [
        ("LPUSH", "other:{q}:runway", "1.0"),
        ("LRANGE", "sessions", "0", "-1"),
        ("HGET", "goqueues:{q}:messages", "1.0"),
        ("DEL", "other"),
        ("EVAL", "return redis.call('LLEN', KEYS[1])", "1", "other"),
        ("EVAL", "return redis.call('LLEN', 'other')", "0"),
    ],
    ids=["write", "read", "a name that begins alike", "delete", "a script's key", "a script's hidden key"],
)
def test_keys_of_others_are_refused(client: redis.Redis, command: tuple[str, ...]) -> None:
    """The user reaches the keys of its namespace alone, in a script as well."""
    with pytest.raises(redis.RedisError, match=r"(?i)permission|NOPERM|can't access"):
        client.execute_command(*command)  # type: ignore[no-untyped-call]


def test_a_cluster_needs_one_command_more(guarded: EmbeddedValkey, client: redis.Redis) -> None:
    """Asking which primary holds a queue is refused, until the user may do what docs/scaling.md adds."""
    with pytest.raises(redis.exceptions.NoPermissionError):
        client.execute_command("CLUSTER", "SLOTS")  # type: ignore[no-untyped-call]
    with warden_of(guarded) as warden:
        warden.execute_command("ACL", "SETUSER", "goqueue", "+cluster|slots")
        with pytest.raises(redis.ResponseError, match="cluster support disabled"):
            client.execute_command("CLUSTER", "SLOTS")  # type: ignore[no-untyped-call]
        warden.execute_command("ACL", "SETUSER", "goqueue", "-cluster|slots")


def test_nobody_gets_in_without_the_password(guarded: EmbeddedValkey) -> None:
    """The default user is off, and a wrong password is none."""
    for user, password in ((None, None), ("goqueue", "wrong")):
        with (
            redis.Redis(
                host=HOST, port=guarded.port, username=user, password=password, retry=Retry(NoBackoff(), 0)
            ) as client,
            pytest.raises(redis.exceptions.AuthenticationError),
        ):
            client.ping()


def refusals(server: EmbeddedValkey) -> list[dict[str, str]]:
    """What the server has written down of refused commands."""
    with warden_of(server) as warden:
        entries: list[dict[str, str]] = warden.acl_log(count=200)
        return entries


def warden_of(server: EmbeddedValkey) -> redis.Redis:
    """A client that may do everything."""
    return redis.Redis(host=HOST, port=server.port, username="warden", password="any", decode_responses=True)
