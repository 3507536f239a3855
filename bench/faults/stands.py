"""Where a scenario runs: servers of its own, and one system, stock Dramatiq or GoQueue, behind one face."""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import ClassVar, Self

import dramatiq
import psycopg
import redis
from dramatiq.brokers.redis import RedisBroker

from bench.faults.proxy import RedisProxy
from bench.faults.side_effects import SideEffects
from bench.processes import Child
from bench.stack import ROOT
from goqueue.config.settings import load_settings
from goqueue.db.database import Database
from goqueue.dev.embedded import EmbeddedValkey
from goqueue.engine.create import JobCreator
from goqueue.engine.runway.runway import Runway
from goqueue.jobs import NewJob

QUEUE = "bench"
THREADS = 4


class Stand(ABC):
    """One scenario's Valkey, the proxy before it, its side effects, and the processes it started."""

    system: ClassVar[str]
    module: ClassVar[str]
    #: What a request contains that fetches messages, or that enqueues one.
    fetch_command: ClassVar[bytes]
    enqueue_command: ClassVar[bytes]

    def __init__(self, folder: Path, database_url: str) -> None:
        folder.mkdir()
        self.folder = folder
        self.database_url = database_url
        self.effects = SideEffects(folder / "effects")
        self._middleware = ""
        self._exit = ExitStack()

    def __enter__(self) -> Self:
        self.valkey = self._exit.enter_context(EmbeddedValkey(self.folder / "valkey"))
        self.proxy = self._exit.enter_context(RedisProxy(self.valkey.port))
        self.redis = self._exit.enter_context(redis.Redis.from_url(self.valkey.url))
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def use_middleware(self, name: str) -> None:
        """Add a middleware of `work` to the workers that start from now on."""
        self._middleware = name

    def start_worker(self, *, processes: int = 1) -> Child:
        """Dramatiq's command with this system's jobs."""
        arguments = [
            "-m",
            "dramatiq",
            self.module,
            "-p",
            str(processes),
            "-t",
            str(THREADS),
            "--skip-logging",
        ]
        return self.start(arguments)

    def start(self, arguments: list[str]) -> Child:
        """A process of this scenario, ended with it; its Redis is the proxy."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("GOQUEUE_")}
        mine = {
            "PYTHONPATH": str(ROOT),
            "FAULTS_FOLDER": str(self.folder),
            "FAULTS_REDIS_URL": self.proxy.url,
            "FAULTS_MIDDLEWARE": self._middleware,
            "GOQUEUE_DATABASE_URL": self.database_url,
            "GOQUEUE_REDIS_URL": self.proxy.url,
            "GOQUEUE_ACTORS": "bench.faults.goqueue_jobs",
        }
        child = Child(arguments, environment=inherited | mine, log=self.folder / "processes.log")
        return self._exit.enter_context(child)

    @abstractmethod
    def start_services(self) -> None:
        """Start what the system has besides workers."""

    @abstractmethod
    def start_supervised(self, processes: int) -> Child:
        """Start worker processes the way the system means them to be kept running."""

    @abstractmethod
    def enqueue(self, job: str, numbers: Iterable[int]) -> None:
        """Create jobs, one call each, through the proxy."""

    @abstractmethod
    def put_garbage(self) -> None:
        """Put what is no message at the head of the queue."""

    @abstractmethod
    def waiting(self) -> int:
        """How many entries nobody has fetched yet."""

    @abstractmethod
    def pending(self) -> set[int]:
        """The jobs that the system still means to do something about."""

    @abstractmethod
    def failed(self) -> set[int]:
        """The jobs that the system keeps as dead letters."""


class DramatiqStand(Stand):
    """Stock Dramatiq."""

    system = "Dramatiq"
    module = "bench.faults.dramatiq_jobs"
    fetch_command = b"\r\nfetch\r\n"
    enqueue_command = b"\r\nenqueue\r\n"

    def start_services(self) -> None:
        """It has none."""

    def start_supervised(self, processes: int) -> Child:
        """Dramatiq's command starts several processes itself."""
        return self.start_worker(processes=processes)

    def enqueue(self, job: str, numbers: Iterable[int]) -> None:
        """Send messages; by host and port, as in Dramatiq's guide: then redis-py repeats what failed."""
        broker = RedisBroker(host="127.0.0.1", port=self.proxy.port)  # type: ignore[no-untyped-call]  # Dramatiq's
        for number in numbers:
            broker.enqueue(dramatiq.Message(QUEUE, job, (), {"number": number}, {}))
        broker.client.close()

    def put_garbage(self) -> None:
        """An id whose message is not JSON."""
        self.redis.hset(f"dramatiq:{QUEUE}.msgs", "garbage", b"\xffnot a message")
        self.redis.lpush(f"dramatiq:{QUEUE}", "garbage")

    def waiting(self) -> int:
        """The length of the list."""
        return int(self.redis.llen(f"dramatiq:{QUEUE}"))

    def pending(self) -> set[int]:
        """What the message hashes hold, waiting or unacknowledged."""
        return self._numbers(f"dramatiq:{QUEUE}.msgs") | self._numbers(f"dramatiq:{QUEUE}.DQ.msgs")

    def failed(self) -> set[int]:
        """What its dead-letter queue holds."""
        return self._numbers(f"dramatiq:{QUEUE}.XQ.msgs")

    def _numbers(self, key: str) -> set[int]:
        numbers = set()
        for encoded in self.redis.hvals(key):
            try:
                numbers.add(int(json.loads(encoded)["kwargs"]["number"]))
            except ValueError:
                continue
        return numbers


class GoQueueStand(Stand):
    """GoQueue."""

    system = "GoQueue"
    module = "goqueue.actors"
    fetch_command = b"\r\nBLMPOP\r\n"
    enqueue_command = b"\r\nsubmit\r\n"

    def start_services(self) -> None:
        """Dispatcher, rescuer, cleaner."""
        self.start(["-m", "goqueue", "scheduler"])

    def start_supervised(self, processes: int) -> Child:
        """`goqueue worker`."""
        return self.start(
            ["-m", "goqueue", "worker", "--processes", str(processes), "--threads", str(THREADS)]
        )

    def enqueue(self, job: str, numbers: Iterable[int]) -> None:
        """Submit jobs."""
        settings = load_settings(database_url=self.database_url, redis_url=self.proxy.url)
        database, runway = Database(settings, pool_size=1), Runway(settings)
        submitter = JobCreator(settings, database, runway)
        for number in numbers:
            submitter.one(NewJob(queue=QUEUE, type=job, payload=json.dumps({"number": number})))
        submitter.flush()
        runway.close()
        database.close()

    def put_garbage(self) -> None:
        """An entry that is no message."""
        self.redis.lpush(f"goqueue:{{{QUEUE}}}:runway", b"\xffnot a message")

    def waiting(self) -> int:
        """The length of the runway."""
        return int(self.redis.llen(f"goqueue:{{{QUEUE}}}:runway"))

    def pending(self) -> set[int]:
        """The rows that are not final."""
        return self._numbers("status NOT IN ('completed', 'failed', 'cancelled', 'expired')")

    def failed(self) -> set[int]:
        """The rows of dead letters."""
        return self._numbers("status = 'failed'")

    def _numbers(self, condition: str) -> set[int]:
        statement = f"SELECT payload ->> 'number' FROM jobs WHERE {condition}"
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            return {int(row[0]) for row in connection.execute(statement.encode()).fetchall()}
