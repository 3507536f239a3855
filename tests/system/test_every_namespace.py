"""One API, one scheduler command and one worker command for all namespaces inside of a database."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.support.jobs.chaos_jobs import QUEUE
from tests.support.processes.stack import Stack
from tests.support.waiting import wait_until

FLOOD = 10_000
BATCH = 1_000


def body(token: str) -> dict[str, Any]:
    """A request for a job that returns its token."""
    return {"queue": QUEUE, "type": "quick", "payload": {"token": token}}


def processes_by_namespace(stack: Stack) -> Counter[str]:
    """How many processes of the stack belong to each namespace; those of the installation to none."""
    found = Counter[str]()
    for process in stack.processes():
        with suppress(psutil.Error):
            found[process.environ().get("GOQUEUE_DATABASE_NAMESPACE", "")] += 1
    return found


def client_of(stack: Stack, key: str = "") -> httpx.Client:
    """A client of the API, which brings a key."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx.Client(base_url=stack.api_url, headers=headers, trust_env=False, timeout=30)


def test_a_flood_in_one_namespace_is_ahead_of_no_job_of_another(data_folder: Path) -> None:
    """Ten thousand jobs wait in one; a job of another is done long before they are.

    Both namespaces are made while everything runs, and are served by clients that know one address; what was
    deleted is gone, with its processes.
    """
    with Stack(data_folder, worker_threads=4, worker_processes=1) as stack:
        stack.api(api_processes=2)
        for command in ("scheduler", "worker"):
            stack.run(["-m", "goqueue", command, "--every-namespace"])
        with client_of(stack) as operator:
            keys = {name: made(operator, name, share) for name, share in (("acme", 1), ("beta", 2))}
            with client_of(stack, keys["acme"]) as acme, client_of(stack, keys["beta"]) as beta:
                wait_until(partial(serves, acme, "acme"), 30, "the namespace to be served")
                wait_until(partial(serves, beta, "beta"), 30, "the namespace to be served")
                wait_until(partial(has_workers, beta), 60, "workers of the namespace")
                for _ in range(FLOOD // BATCH):
                    flood = {"jobs": [body("flood")] * BATCH}
                    assert acme.post("/jobs/batch", json=flood).status_code == 201
                wait_until(lambda: waiting(acme) < FLOOD, 60, "the flood to begin")
                job = beta.post("/jobs/create", json=body("beta")).json()
                wait_until(lambda: status(beta, job["id"]) == "completed", 60, "the job of the other one")
                assert waiting(acme) > 0, "the flood has ended before"
                assert beta.get("/jobs/2").status_code == 404
                assert status(acme, 2) in {"queued", "running", "completed"}
            started = processes_by_namespace(stack)
            assert started["acme"] >= 2
            assert started["beta"] >= 2
            assert operator.delete("/namespaces/acme").status_code == 409
            deleted = operator.delete("/namespaces/acme", params={"force": "acme"})
            assert deleted.status_code == 204, deleted.text
            wait_until(lambda: not processes_by_namespace(stack)["acme"], 60, "its processes to end")
            with client_of(stack, keys["acme"]) as acme:
                wait_until(lambda: acme.get("/ns/acme/stats").status_code == 404, 30, "it to be gone")
            assert processes_by_namespace(stack)["beta"] >= 2


def made(operator: httpx.Client, name: str, share: int) -> str:
    """Make a namespace, and a key of it; its text."""
    assert operator.post("/namespaces", json={"name": name, "share": share}).status_code == 201
    wait_until(lambda: operator.get(f"/ns/{name}/stats").is_success, 10, "the namespace to be served")
    new = {"name": name, "scopes": ["admin"]}
    created = operator.post(f"/ns/{name}/keys", json=new)
    assert created.status_code == 201, created.text
    return str(created.json()["key"])


def serves(client: httpx.Client, name: str) -> bool:
    """Whether the API serves the namespace of the client's key."""
    listed = client.get("/namespaces").json()
    return [one["name"] for one in listed] == [name]


def has_workers(client: httpx.Client) -> bool:
    """Whether live workers of the namespace take jobs."""
    return bool(client.get("/stats").json()["workers"])


def waiting(client: httpx.Client) -> int:
    """How many jobs of the namespace wait."""
    return int(client.get("/stats").json()["counts"]["ready"])


def status(client: httpx.Client, job_id: int) -> str:
    """The status of a job."""
    return str(client.get(f"/jobs/{job_id}").json()["status"])
