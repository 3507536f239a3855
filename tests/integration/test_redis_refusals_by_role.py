"""Every refusal of Redis is an outage for every role: nothing is lost, recorded twice, or taken for a bug."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from falcon import testing
from structlog.testing import capture_logs

import goqueue
from goqueue.api.app import create_app
from goqueue.config.settings import Settings
from goqueue.engine.runway.runway import Message, Runway
from goqueue.errors import ConfigurationError, RedisUnavailableError
from goqueue.jobs import JobStatus
from goqueue.middleware.attempt import JobAttempt
from goqueue.middleware.job_message import JobMessage
from goqueue.ops.checks import check_redis, problems_of
from goqueue.scheduler import service
from tests.support.counted import counted
from tests.support.engine import QUICK, Engine, process_of
from tests.support.factories import JobFactory, claimed_job
from tests.support.servers.refusing_servers import REFUSALS, Refusal, Servers, url_of
from tests.support.waiting import wait_until

QUEUE = "refused"

#: From the end of a refusal until jobs run again, and the longest that one create may take meanwhile.
RECOVERY_SECONDS = 5
REQUEST_SECONDS = 1.5

THREADS: int = QUICK["worker_threads"]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """The servers that all tests of this module harm."""
    with Servers(tmp_path_factory.mktemp("refusing")) as servers:
        yield servers


class Roles:
    """An API, and a worker with a dispatcher, in this process: each with its own connections to Redis."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self.engine = engine
        self.broker = engine.broker
        self.ran: list[int] = []
        self.may_end = threading.Event()
        self.runway = Runway(settings)
        app = create_app(settings, database=self.broker.database, runway=self.runway)
        self.client = testing.TestClient(app)
        self.made: list[int] = []

    def create(self, *, holds: bool = False) -> int:
        """Create a job by REST: it is accepted at once, and is a row."""
        began_at = time.monotonic()
        body = {"queue": QUEUE, "payload": {"holds": holds}}
        answer = self.client.simulate_post("/jobs/create", json=body)
        assert time.monotonic() - began_at < REQUEST_SECONDS
        assert answer.status_code == 201, answer.text
        self.made.append(answer.json["id"])
        return self.made[-1]

    def claimed_ahead(self) -> JobMessage:
        """A job that this worker has claimed and not begun."""
        job = JobFactory(self.broker.database)(
            "running", queue=QUEUE, type="handle", worker_id=self.broker.claimed_jobs.worker_id, begun_at=None
        )
        current = JobAttempt(claimed_job(id=job.id, queue=QUEUE, type="handle"), QUEUE)
        self.broker.claimed_jobs.add([current])
        assert self.broker.slots.take(1) == 1
        self.made.append(job.id)
        return JobMessage(current, throws=())

    def wait_for_a_turn(self) -> None:
        """Wait until the consumer begins its next fetch."""
        began_at = time.monotonic()
        wait_until(lambda: self.broker.heartbeats._turned[QUEUE] > began_at, 5, "a fetch")  # noqa: SLF001  (when a fetch began is told nowhere)

    def status(self, job_id: int) -> JobStatus:
        """Of the row."""
        return self.engine.job(job_id).status

    @property
    def threads(self) -> list[threading.Thread]:
        """Of the consumers, the handlers and the dispatcher."""
        worker: Any = self.engine.worker
        assert self.engine.dispatcher is not None
        return [*worker.consumers.values(), *worker.workers, self.engine.dispatcher]

    def is_refused(self) -> bool:
        """Whether Redis refuses a write."""
        try:
            self.runway.wake_dispatcher()
        except RedisUnavailableError:
            return True
        return False


@contextmanager
def roles_of(settings: Settings) -> Iterator[Roles]:
    """The roles, while they run."""
    with process_of(settings) as broker:
        known: list[Roles] = []

        @goqueue.actor(queue=QUEUE)
        def handle(holds: bool = False) -> None:  # noqa: FBT002  (a field of the payload)
            known[0].ran.append(goqueue.current_job().id)
            if holds:
                known[0].may_end.wait(20)

        with Engine(broker) as engine:
            known.append(Roles(settings, engine))
            try:
                yield known[0]
            finally:
                known[0].may_end.set()
        known[0].runway.close()


def paused() -> float:
    """How often fetching has paused."""
    return counted("fetching_paused_total")


def postponed() -> float:
    """How many rounds of the dispatcher have failed."""
    return counted("service_failures_total", service="dispatcher")


def settings_at(settings: Settings, servers: Servers, place: str) -> Settings:
    """The settings of a test, and the Redis of this module."""
    return settings.model_copy(update={**QUICK, "redis_url": url_of(servers, place)})


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_is_an_outage_for_every_role(
    settings: Settings, servers: Servers, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Creates are accepted at once, outcomes recorded, and what waits runs once when the refusal is over."""
    monkeypatch.setattr(service, "FAILURE_PAUSE_SECONDS", 0.1)
    refusal = REFUSALS[name]
    with roles_of(settings_at(settings, servers, refusal.place)) as roles, capture_logs() as logs:
        held = [roles.create(holds=True) for _ in range(THREADS)]
        for job_id in held:
            roles.engine.wait_for(job_id, "running")
        waiting = roles.create()
        wait_until(lambda: roles.runway.lengths([QUEUE])[0][0] == 1, what="the push")
        threads = roles.threads
        before = paused(), postponed()
        refusal.begin(servers)
        try:
            live_with(roles, refusal, [*held, waiting], before)
        finally:
            refusal.end(servers)
        recover(roles)
        assert [thread for thread in threads if not thread.is_alive()] == []
        assert roles.broker.recorder.is_alive
    assert [entry for entry in logs if entry["log_level"] in {"error", "critical"}] == []


def live_with(roles: Roles, refusal: Refusal, made: list[int], before: tuple[float, float]) -> None:
    """What each role does while Redis refuses; the last of the jobs is on the runway, the others run."""
    if refusal.postpones:
        wait_until(roles.is_refused, 5, "the refusal")
    roles.create()
    roles.may_end.set()
    for job_id in made[:THREADS]:
        assert roles.engine.wait_for(job_id).attempts == 1
    if refusal.pauses:
        wait_until(lambda: paused() > before[0], 5, "a pause of fetching")
    else:
        roles.engine.wait_for(made[-1])
        for _ in range(3):
            roles.wait_for_a_turn()
        assert paused() == before[0]
    returned = roles.claimed_ahead()
    roles.broker.claimed_ahead.give_back([returned], "stopping")
    wait_until(lambda: roles.status(returned.current.id) != "running", 5, "the return")
    if refusal.postpones:
        wait_until(lambda: postponed() > before[1], 5, "a round that is postponed")
    roles.create()


def recover(roles: Roles) -> None:
    """All that was accepted completes soon, once."""
    roles.create()
    wait_until(
        lambda: {roles.status(job_id) for job_id in roles.made} == {"completed"},
        RECOVERY_SECONDS,
        "every job to complete",
    )
    assert sorted(roles.ran) == sorted(roles.made)
    counts = roles.engine.rows("SELECT job_id, count(*) FROM attempts GROUP BY job_id ORDER BY job_id")
    assert counts == [(job_id, 1) for job_id in sorted(roles.made)]


def test_what_a_full_server_gave_is_kept(settings: Settings, servers: Servers) -> None:
    """A server without memory refuses the note of who waits, and pops: what it popped is not dropped."""
    runway = Runway(settings_at(settings, servers, "login"))
    runway.submit("q", [Message(1, 0)])
    servers.do("CONFIG", "SET", "maxmemory", "1mb")
    try:
        assert runway.take("q", 1, block_seconds=0.1, waits_as=7).entries == [b"1.0"]
    finally:
        servers.do("CONFIG", "SET", "maxmemory", "0")
    runway.close()


#: What a person has to mend, and the line that they read.
LINES: dict[str, tuple[tuple[str, ...], tuple[str, ...], str, str]] = {
    "NOAUTH": (
        ("CONFIG", "SET", "requirepass", "changed"),
        ("CONFIG", "SET", "requirepass", ""),
        "nobody",
        "GOQUEUE_REDIS_URL: Redis: NOAUTH",
    ),
    "WRONGPASS": (
        ("ACL", "SETUSER", "worker", "resetpass", ">changed"),
        ("ACL", "SETUSER", "worker", ">secret"),
        "login",
        "GOQUEUE_REDIS_URL: Redis: WRONGPASS",
    ),
    "NOPERM": (
        ("ACL", "SETUSER", "worker", "-blmpop"),
        ("ACL", "SETUSER", "worker", "+@all"),
        "login",
        "GOQUEUE_REDIS_URL: Redis: NOPERM",
    ),
    "NOPERM of a key": (
        ("ACL", "SETUSER", "worker", "resetkeys", "~other:*"),
        ("ACL", "SETUSER", "worker", "~*"),
        "login",
        "GOQUEUE_REDIS_URL: Redis: NOPERM",
    ),
    "NOPERM in the script": (
        ("ACL", "SETUSER", "worker", "-rpush"),
        ("ACL", "SETUSER", "worker", "+@all"),
        "login",
        "GOQUEUE_REDIS_URL: Redis: ERR ACL failure in script",
    ),
    "OOM": (
        ("CONFIG", "SET", "maxmemory", "1mb"),
        ("CONFIG", "SET", "maxmemory", "0"),
        "login",
        "Redis: OOM",
    ),
    "eviction": (
        ("CONFIG", "SET", "maxmemory-policy", "allkeys-lru"),
        ("CONFIG", "SET", "maxmemory-policy", "noeviction"),
        "login",
        "Redis: expected the maxmemory-policy noeviction",
    ),
}


@pytest.mark.parametrize("name", LINES)
def test_a_check_says_what_a_person_has_to_mend(settings: Settings, servers: Servers, name: str) -> None:
    """`goqueue check` has one line with Redis's word for it, and none when it is mended."""
    begin, end, place, line = LINES[name]
    checked = settings_at(settings, servers, place)
    servers.do(*begin)
    try:
        (problem,) = problems_of(checked)
        assert problem.startswith(line)
    finally:
        servers.do(*end)
    assert problems_of(checked) == []


def test_a_cluster_that_does_not_tell_its_primaries_is_told(settings: Settings, servers: Servers) -> None:
    """A user that may not ask for the slots reads so, and not that no node answers."""
    servers.of_node.execute_command("ACL", "SETUSER", "default", "-cluster|slots")  # type: ignore[no-untyped-call]
    try:
        with pytest.raises(ConfigurationError, match=r"NOPERM .*cluster\|slots"):
            check_redis(settings_at(settings, servers, "cluster"))
    finally:
        servers.of_node.execute_command("ACL", "SETUSER", "default", "+@all")  # type: ignore[no-untyped-call]
    check_redis(settings_at(settings, servers, "cluster"))
