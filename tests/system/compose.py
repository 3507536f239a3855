"""Runs docker-compose.yml and does harm to it: `python -m tests.system.compose` (`make test-compose`).

Images that are missing are pulled, or the engine has them: stand-ins under the same names will do.
"""

from __future__ import annotations

import argparse
import re
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, cast

import httpx

from goqueue.dev.demo import _all_jobs, _Demo
from goqueue.dev.demo_jobs import kinds_of
from goqueue.dev.demo_report import DemoFacts, print_report
from goqueue.dev.embedded_stack import EmbeddedStack
from goqueue.ops.supervisor import StopRequest
from tests.support.servers.compose import Compose, Counterparts, docker, docker_answers
from tests.support.waiting import wait_until

FINAL = {"completed", "failed", "cancelled", "expired"}
GOQUEUE_SERVICES = ("api", "worker", "quarantine", "scheduler")
SERVICES = ("postgres", "redis", *GOQUEUE_SERVICES)
SETTLE_SECONDS = 180
SECRETS = ("POSTGRES_PASSWORD", "REDIS_PASSWORD", "GOQUEUE_API_KEYS", "GOQUEUE_WEBHOOK_SECRET")
EXPRESSIONS = (
    "count(up == 1) by (job)",
    "sum(jobs_processed_total) by (status)",
    "max(workers_live)",
    "sum(leader)",
)
WRITE = "touch /srv/x 2>/dev/null || echo refused"
COMPILERS = ("cc", "gcc", "g++", "clang", "make", "ld", "as")

#: The worker threads of one container: so many jobs may run again when it is killed.
WORKER_SLOTS = 16


def main() -> int:
    """Run every step; the exit code: 0 when each is as promised, or when there is no Docker engine."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000, help="of the demo (1,000)")
    options = parser.parse_args()
    if not docker_answers():
        say("skipped: no Docker engine with Compose answers on this machine")
        return 0
    say_images()
    with Counterparts() as counterparts, Compose(counterparts, "prometheus") as stack:
        say(f"up: {stack.api_url}; every container is healthy")
        check_hardening(stack)
        check_example_secrets(stack)
        check_demo(stack, counterparts, options.jobs)
        check_prometheus(stack)
        worker, redis = stack.containers("worker")[0], stack.containers("redis")[0]
        check_harm(stack, counterparts, "a worker container is killed", lambda: crash(stack, worker))
        check_harm(stack, counterparts, "the Redis container is killed", lambda: crash(stack, redis))
        leader = stack.leading_scheduler()
        check_harm(stack, counterparts, "the leading scheduler is killed", lambda: crash(stack, leader))
        check_harm(stack, counterparts, "a worker container is stopped", lambda: restart(stack, "worker"))
        check_stop(stack)
    say("passed")
    return 0


def say(text: str) -> None:
    """Print a line with the time."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)  # noqa: T201  (a command prints)


def say_images() -> None:
    """Tell which engine this is."""
    say(f"Docker {docker('version', '--format', '{{.Server.Version}}').strip()}")


def check_hardening(stack: Compose) -> None:
    """Every container is what docs/containers.md says of it."""
    for service in SERVICES:
        for container in stack.containers(service):
            host = container["HostConfig"]
            assert host["ReadonlyRootfs"], f"{service} may write its root"
            assert host["CapDrop"] == ["ALL"], f"{service} has capabilities"
            assert "no-new-privileges:true" in host["SecurityOpt"], f"{service} may gain privileges"
    for service in GOQUEUE_SERVICES:
        container = stack.containers(service)[0]["Id"]
        status = docker("exec", container, "cat", "/proc/1/status")
        fields = dict(re.findall(r"^(\w+):\s+(.*)$", status, re.MULTILINE))
        assert fields["Name"] == "tini"
        assert fields["Uid"].split() == ["10001"] * 4
        assert fields["CapEff"] == "0" * 16
        assert fields["NoNewPrivs"] == "1"
        assert docker("exec", container, "sh", "-c", WRITE) == "refused\n"
    find = "for name in " + " ".join(COMPILERS) + "; do command -v $name; done; true"
    assert docker("exec", stack.containers("api")[0]["Id"], "sh", "-c", find) == ""
    say("hardened: user 10001, no capabilities, no new privileges, read-only root, no compiler; init is tini")


def check_example_secrets(stack: Compose) -> None:
    """In production, nothing starts with the secrets of the example."""
    examples = dict.fromkeys(SECRETS, "")
    done = stack.run("run", "--rm", "--no-deps", "-T", "migrate", check=False, **examples)
    refused = re.findall(r"goqueue: (GOQUEUE_\w+): expected a secret of your own", done.stdout + done.stderr)
    assert done.returncode == 2, done.stderr
    assert len(refused) == 4, done.stderr
    say(f"the example's secrets are refused with exit code 2: {', '.join(refused)}")


def check_demo(stack: Compose, counterparts: Counterparts, jobs: int) -> None:
    """The jobs of `make demo` come to what they must come to."""
    kinds = kinds_of(jobs)
    with stack.client() as client:
        demo = _Demo(cast("EmbeddedStack", counterparts), client, kinds, StopRequest())
        replays = demo.run()
        found = _all_jobs(client)
    facts = DemoFacts(
        found, replays, counterparts.mail, counterparts.payments, counterparts.webhooks, ended_well=True
    )
    assert print_report(facts, kinds), "the demo's numbers are wrong"
    say(f"the demo's {jobs} jobs are as expected")


def check_prometheus(stack: Compose) -> None:
    """Prometheus reads the metrics of every GoQueue container."""

    def query(expression: str) -> list[dict[str, Any]]:
        answer = httpx.get(
            f"{stack.prometheus_url}/api/v1/query", params={"query": expression}, trust_env=False
        )
        return list(answer.json()["data"]["result"])

    running = sum(len(stack.containers(service)) for service in GOQUEUE_SERVICES)
    wait_until(lambda: len(query("up == 1")) >= running, 90, f"{running} targets to be up", poll_seconds=1)
    assert not query("up == 0")
    wait_until(lambda: query("sum(jobs_processed_total) > 0"), 60, "the workers' metrics", poll_seconds=1)
    for expression in EXPRESSIONS:
        for row in query(expression):
            say(f"prometheus: {expression} {row['metric']} = {row['value'][1]}")


def check_harm(stack: Compose, counterparts: Counterparts, what: str, harm: Callable[[], str]) -> None:
    """Harm under load; afterwards every accepted job has completed, and only a dead worker's ran again."""
    with stack.client() as client:
        load = Load(client, counterparts.webhooks.url)
        before = repeats(counterparts)
        load.start()
        wait_until(lambda: load.completed() > 100, 60, "the load to run", poll_seconds=0.2)
        started = time.monotonic()
        name = harm()
        wait_until(lambda: time.monotonic() > started + 5, 10, "the load to go on for a while")
        load.stop()
        wait_until(load.is_over, SETTLE_SECONDS, "every job to end", poll_seconds=1)
        statuses = load.statuses()
    again = repeats(counterparts) - before
    assert statuses == {"completed": len(load.accepted)}, statuses
    say(f"{what} ({name}): accepted {len(load.accepted)}, ended {statuses}, side effects repeated {again}")
    assert again <= WORKER_SLOTS
    stack.wait_until_healthy()


def crash(stack: Compose, container: dict[str, Any]) -> str:
    """SIGKILL, and wait until Docker has started the container again."""
    service = container["Config"]["Labels"]["com.docker.compose.service"]
    before = stack.restarts(service)
    name = stack.crash(container)
    wait_until(lambda: stack.restarts(service) > before, 60, f"{name} to be restarted", poll_seconds=0.2)
    return name


def restart(stack: Compose, service: str) -> str:
    """Stop a container in order and start it again; it ends by itself."""
    container = stack.containers(service)[0]
    started = time.monotonic()
    docker("stop", "--time", "60", container["Id"])
    seconds = time.monotonic() - started
    code = stack.containers(service)[0]["State"]["ExitCode"]
    assert code == 0, f"{service} ended with {code}"
    docker("start", container["Id"])
    return f"{container['Name'].removeprefix('/')} ended by itself with 0 after {seconds:.1f} s"


def check_stop(stack: Compose) -> None:
    """SIGTERM reaches every process: all of GoQueue ends by itself, and in time."""
    started = time.monotonic()
    stack.run("stop", *GOQUEUE_SERVICES)
    codes = {
        container["Name"].removeprefix("/"): container["State"]["ExitCode"]
        for service in GOQUEUE_SERVICES
        for container in stack.containers(service)
    }
    assert set(codes.values()) == {0}, codes
    say(f"stopped after {time.monotonic() - started:.1f} s, {len(codes)} containers, each with exit code 0")


def repeats(counterparts: Counterparts) -> int:
    """How many mails and webhooks came more than once."""
    accepted = counterparts.webhooks.accepted
    return counterparts.mail.repeats + accepted.total() - len(accepted)


class Load:
    """Creates mails and webhooks in batches until it is stopped, and knows every job that was accepted."""

    BATCH = 50
    BACKLOG_MAX = 500

    def __init__(self, client: httpx.Client, webhooks_url: str) -> None:
        self._client = client
        self._url = webhooks_url
        self.accepted: set[int] = set()
        self._stopping = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="load")

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Create no more; raises what went wrong meanwhile."""
        self._stopping.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def completed(self) -> int:
        """How many of the accepted jobs have completed."""
        return self.statuses().get("completed", 0)

    def is_over(self) -> bool:
        """Whether every accepted job has ended."""
        statuses = self.statuses()
        return sum(statuses.get(status, 0) for status in FINAL) == len(self.accepted)

    def statuses(self) -> dict[str, int]:
        """How many of the accepted jobs are in which state, as the API lists them."""
        counts: dict[str, int] = {}
        for queue in ("email", "webhooks"):
            page: str | None = f"/jobs?queue={queue}&limit=1000"
            while page:
                answer = self._client.get(page).raise_for_status()
                for job in answer.json():
                    if job["id"] in self.accepted:
                        counts[job["status"]] = counts.get(job["status"], 0) + 1
                page = answer.links.get("next", {}).get("url")
        return counts

    def _run(self) -> None:
        try:
            self._create()
        except Exception as error:  # noqa: BLE001  (it is raised by `stop`)
            self._failure = error

    def _create(self) -> None:
        while not self._stopping.wait(0.05):
            if self._unfinished() < self.BACKLOG_MAX:
                jobs = [self._job(number) for number in range(self.BATCH)]
                answer = self._client.post("/jobs/batch", json={"jobs": jobs})
                answer.raise_for_status()
                self.accepted.update(answer.json()["ids"])

    def _unfinished(self) -> int:
        counts = self._client.get("/stats").raise_for_status().json()["counts"]
        return int(counts["ready"] + counts["running"])

    def _job(self, number: int) -> dict[str, Any]:
        if number % 2:
            url = f"{self._url}/slow/0.02"
            payload = {"url": url, "method": "POST", "body": {"number": number}, "timeout": 10}
            return {"queue": "webhooks", "payload": payload}
        payload = {"to": f"ada-{number}@example.com", "subject": "Hello", "body": "World"}
        return {"queue": "email", "payload": payload}


if __name__ == "__main__":
    sys.exit(main())
