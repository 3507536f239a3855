"""Load for a chaos run: everything that time, order and flow added, through the API, at random."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from goqueue.errors import DatabaseUnavailableError
from goqueue.schedules import scheduling
from tests.support.chaos.flow_checker import TWINS, WITNESS, FlowHistory, check_flow
from tests.support.jobs import flow_jobs
from tests.support.jobs.chaos_jobs import QUEUE
from tests.support.processes.stack import ACTORS, BACKLOG_MAX, Stack
from tests.support.waiting import wait_until

FLOW_ACTORS = (ACTORS, flow_jobs.__name__)

SCHEDULE = "chaos"
ACTING_THREADS = 3
UNIQUE_KEYS = 3
KEYS = tuple(f"key-{number}" for number in range(4))

#: a → b, c → d, as positions in a batch.
DIAMOND: tuple[tuple[str, ...], ...] = ((), ("0",), ("0",), ("1", "2"))

#: Answers that say what a client did too late.
LATE = {404, 409}

SAMPLE_SECONDS = 0.1

#: In which what came after the faults has to be done: no slot and no token of a rate is lost.
PROBE_SECONDS = 45.0


class FlowLoad:
    """Creates, changes and cancels jobs of all kinds, and changes limits, while a stack is harmed.

    Args:
        dice: decides what and when.
    """

    def __init__(self, stack: Stack, dice: random.Random) -> None:
        self._stack = stack
        self._dice = dice
        self._ended = threading.Event()
        #: What would be judged wrongly if two did it at once.
        self._in_turn = threading.Lock()
        self._client = httpx.Client(base_url=stack.api_url, trust_env=False, timeout=15)
        self._recent: list[int] = []
        self.history = FlowHistory()
        self.done: Counter[str] = Counter()

    def close(self) -> None:
        """Close the connections to the API."""
        self._client.close()

    def prepare(self) -> None:
        """Set what stays as it is: the witness of releases, the strict order, a schedule."""
        with self._stack.database.autocommit() as connection:
            connection.exec_driver_sql(WITNESS)
        assert self._ask("PUT", f"/queues/{flow_jobs.FIFO_QUEUE}", {"fifo": True})
        token = self._shared(f"schedule-{SCHEDULE}")
        payload = {"token": token, "number": 0}
        schedule = {"cron": "* * * * *", "queue": QUEUE, "type": "alone", "payload": payload}
        assert self._ask("PUT", f"/schedules/{SCHEDULE}", schedule | {"catch_up": "all"})

    @contextmanager
    def running(self) -> Iterator[None]:
        """Go on inside the block."""
        threads = [
            threading.Thread(target=target, name=target.__name__, daemon=True)
            for target in (*[self._act_on] * ACTING_THREADS, self._sample_on)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._ended.set()
            for thread in threads:
                thread.join(30)

    def settle(self, timeout_seconds: float) -> None:
        """Wait until all has ended; what holds jobs back on purpose is taken away."""
        wait_until(self._stack.api_answers, 30, "the API to answer")
        scheduling.pause(self._stack.database, SCHEDULE, author="chaos", reason="the run is over")
        self._limit_keys(2, {"concurrency": None})
        self._limit_rate(60)
        self._stack.wait_until_finished(timeout_seconds)

    def prove(self) -> None:
        """Wait until each queue has done new work: no slot and no token of a rate is lost."""
        for create in (self.create_keyed, self.create_rated, self.create_in_order, self.create_diamond):
            for _ in range(5):
                create()
        self._stack.wait_until_finished(PROBE_SECONDS)

    def verdict(self) -> list[str]:
        """Print and return what is wrong."""
        wrong = check_flow(self.history, self._stack.rows)
        print(f"flow: {dict(self.done)}; {len(wrong)} wrong", *wrong[:20], sep="\n  ", flush=True)  # noqa: T201
        return wrong

    def create_keyed(self) -> None:
        """A batch of two keys: more than may run at once."""
        for key in self._dice.sample(KEYS, 2):
            said = {"seconds": 0.1, "concurrency_key": key, "max_retries": 10}
            self._create_batch([("keyed", flow_jobs.KEYED_QUEUE, said)] * self._dice.randint(1, 8))

    def create_rated(self) -> None:
        """A batch of starts, and some that start again."""
        self._create_batch(
            ("rated", flow_jobs.RATED_QUEUE, {"fails": self._dice.random() < 0.2, "rate_cost": cost})
            for cost in self._dice.choices((1, 2, 3), k=self._dice.randint(1, 12))
        )

    def create_in_order(self) -> None:
        """Some behind the others of their key."""
        said = {"seconds": 0.03, "concurrency_key": self._dice.choice(KEYS)}
        with self._in_turn:
            self._create_batch([("in_order", flow_jobs.FIFO_QUEUE, said)] * self._dice.randint(1, 4))

    def create_telling(self) -> None:
        """One that reports, and may be cancelled while it runs."""
        self._create("telling", QUEUE, seconds=self._dice.uniform(0.1, 1.5))

    def create_short_lived(self) -> None:
        """One that expires soon, one that has a deadline."""
        ttl = self._dice.uniform(0.01, 1.0)
        self._create("telling", QUEUE, seconds=0.1, ttl_seconds=ttl, delay_seconds=ttl * self._dice.random())
        self._create("telling", QUEUE, seconds=0.5, deadline_seconds=self._dice.uniform(0.3, 2))

    def create_unique(self) -> None:
        """One of a unique key, in one of the modes."""
        number = self._dice.randrange(UNIQUE_KEYS)
        unique: dict[str, Any] = {"key": f"unique-{number}", "while": ["queued", "blocked", "running"]}
        mode = self._dice.choice(("reject", "reject", "replace_payload", "debounce"))
        unique |= {"mode": mode} | ({"debounce_max_seconds": 2} if mode == "debounce" else {})
        payload = {"token": self._shared(f"unique-{number}"), "number": self._dice.randrange(1000)}
        delay = self._dice.choice((0, 0.3))
        body = {"queue": QUEUE, "type": "alone", "payload": payload, "delay_seconds": delay}
        self._ask("POST", "/jobs/create", body | {"unique": unique})

    def create_diamond(self) -> None:
        """Four jobs, of which the first may fail, with some policy about that."""
        policy = self._dice.choice(("fail", "cancel", "run"))
        self._create_batch(
            (
                "node",
                QUEUE,
                {
                    "fails": self._dice.random() < 0.15,
                    "ref": str(place),
                    "depends_on": list(after),
                    "on_parent_failure": policy,
                },
            )
            for place, after in enumerate(DIAMOND)
        )

    def create_chain(self) -> None:
        """Three jobs in one call, and one more that waits for the last of them and for one from before."""
        tokens = [self._stack.collector.new_token() for _ in range(3)]
        first, *others = (
            self._body("node", QUEUE, token, fails=self._dice.random() < 0.1) for token in tokens
        )
        if (answer := self._ask("POST", "/jobs/create", first | {"then": others})) is not None:
            ids = [answer["id"], *answer["then"]]
            self._acknowledge(tokens, ids)
            parents = {ids[-1], *self._dice.sample(self._recent, 1)}
            self._create("node", QUEUE, fails=False, depends_on=sorted(parents), on_parent_failure="run")

    def cancel(self) -> None:
        """One of the latest jobs, whatever it is doing."""
        if self._recent:
            self._ask("POST", f"/jobs/{self._dice.choice(self._recent)}/cancel")

    def cancel_running(self) -> None:
        """Cancel a job that runs."""
        rows = self._stack.rows("SELECT id FROM jobs WHERE status = 'running' AND type <> 'slow' LIMIT 20")
        if rows:
            self._ask("POST", f"/jobs/{self._dice.choice(rows)[0]}/cancel")

    def edit(self) -> None:
        """One of the latest jobs: its priority, its time."""
        if self._recent:
            later = datetime.now(UTC) + timedelta(seconds=self._dice.uniform(-1, 1))
            body = self._dice.choice(({"priority": 5}, {"available_at": later.isoformat()}))
            self._ask("PATCH", f"/jobs/{self._dice.choice(self._recent)}", body)

    def run_schedule(self) -> None:
        """Run the schedule out of turn."""
        self._ask("POST", f"/schedules/{SCHEDULE}/run")

    def change_key_limit(self) -> None:
        """More, less, or none; and other turns."""
        limit = self._dice.choice((1, 1, 2, 3, None))
        other = {"fair": self._dice.random() < 0.5, "concurrency": self._dice.choice((None, 3))}
        self._limit_keys(limit, other)

    def change_rate(self) -> None:
        """More, less, or none."""
        self._limit_rate(self._dice.choice((8, 15, 15, 30, None)))

    def pause_a_queue(self) -> None:
        """Pause a queue for a moment; it goes on by itself."""
        queue = self._dice.choice((flow_jobs.KEYED_QUEUE, flow_jobs.RATED_QUEUE, flow_jobs.FIFO_QUEUE, QUEUE))
        self._ask(
            "POST", f"/queues/{queue}/pause", {"seconds": self._dice.uniform(0.1, 1), "author": "chaos"}
        )

    def _act_on(self) -> None:
        actions: list[Callable[[], None]] = [
            *(2 * [self.create_keyed, self.create_rated, self.create_unique, self.create_diamond]),
            *(self.create_in_order, self.create_telling, self.create_short_lived, self.create_chain),
            *(self.cancel, self.cancel_running, self.edit, self.run_schedule),
            *(self.change_key_limit, self.change_rate, self.pause_a_queue),
        ]
        while not self._ended.wait(self._dice.uniform(0, 0.1)):
            with suppress(DatabaseUnavailableError):
                if self._stack.count("queued", "running", "blocked") < BACKLOG_MAX:
                    self._act(self._dice.choice(actions))

    def _act(self, action: Callable[[], None]) -> None:
        try:
            action()
        except DatabaseUnavailableError:
            raise
        except Exception as error:  # noqa: BLE001  (a thread that is gone would load nothing, and nobody would know)
            self.history.wrong.append(f"{action.__name__}: {error!r}")
        self.done[action.__name__] += 1

    def _sample_on(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            with suppress(DatabaseUnavailableError):
                twins = [f"{key} is the key of {ids}, at once" for key, ids in self._stack.rows(TWINS)]
                self.history.wrong += twins

    def _limit_keys(self, limit: int | None, other: dict[str, Any]) -> None:
        body = {"key_concurrency": limit} | other
        self._limit(self.history.key_limits, flow_jobs.KEYED_QUEUE, limit, body)

    def _limit_rate(self, limit: int | None) -> None:
        rate = limit and {"limit": limit, "period_seconds": self.history.rate_seconds}
        self._limit(self.history.rates, flow_jobs.RATED_QUEUE, limit, {"rate": rate})

    def _limit(self, timelines: Any, queue: str, limit: float | None, body: dict[str, Any]) -> None:
        with self._in_turn:
            began_at = time.time()
            answer = self._ask("PUT", f"/queues/{queue}", body)
            timelines[queue].change(limit, began_at, None if answer is None else time.time())

    def _create(self, type_name: str, queue: str, **said: Any) -> None:
        token = self._stack.collector.new_token()
        answer = self._ask("POST", "/jobs/create", self._body(type_name, queue, token, **said))
        if answer is not None:
            self._acknowledge([token], [answer["id"]])

    def _create_batch(self, jobs: Iterable[tuple[str, str, dict[str, Any]]]) -> None:
        bodies = [
            self._body(type_name, queue, self._stack.collector.new_token(), **said)
            for type_name, queue, said in jobs
        ]
        answer = self._ask("POST", "/jobs/batch", {"jobs": bodies})
        if answer is not None:
            self._acknowledge([body["payload"]["token"] for body in bodies], answer["ids"])

    @staticmethod
    def _body(type_name: str, queue: str, token: str, **said: Any) -> dict[str, Any]:
        payload = {name: said.pop(name) for name in ("seconds", "fails") if name in said}
        return {"queue": queue, "type": type_name, "payload": {"token": token, **payload}, **said}

    def _acknowledge(self, tokens: list[str], ids: list[int]) -> None:
        self._stack.collector.history.acknowledged.update(zip(tokens, ids, strict=True))
        self._recent = [*self._recent, *ids][-40:]

    def _shared(self, token: str) -> str:
        self._stack.collector.history.attempted.add(token)
        self._stack.collector.history.shared.add(token)
        return token

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        """The document of a 2xx; None where there was none, or that one came too soon or too late."""
        try:
            answer = self._client.request(method, path, json=body)
        except httpx.HTTPError:
            return None
        if answer.is_success:
            return answer.json()
        if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE and answer.status_code not in LATE:
            self.history.wrong.append(f"{method} {path} {body}: {answer.status_code} {answer.text[:300]}")
        return None
