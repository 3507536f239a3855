"""The stack of docker-compose.yml under a project name, ports and secrets of its own."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import secrets
import shutil
import signal
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from goqueue.dev.embedded import free_port
from goqueue.dev.fakes.payment_sandbox import PaymentSandbox
from goqueue.dev.fakes.smtp_sink import SmtpSink
from goqueue.dev.fakes.webhook_receiver import WebhookReceiver, make_secret
from tests.support.servers.containers import compose_file
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[3]
PROJECT = "goqueue-test"
UP_SECONDS = 900
HEALTHY_SECONDS = 300


def docker_answers() -> bool:
    """Tell whether there is a Docker engine, and Compose."""
    return bool(shutil.which("docker")) and _succeeds("docker", "info") and bool(_compose_command())


def docker(*arguments: str) -> str:
    """Run a docker command and return what it prints."""
    return _output(["docker", *arguments])


class Counterparts:
    """Mail, payment and webhook servers on this machine, where the containers reach them."""

    def __init__(self) -> None:
        found = json.loads(docker("network", "inspect", "bridge"))[0]["IPAM"]["Config"][0]
        self.network: str = found["Subnet"]
        host = found.get("Gateway") or str(next(ipaddress.ip_network(self.network).hosts()))
        self.secret = make_secret()
        self.mail = SmtpSink(host=host)
        self.payments = PaymentSandbox(host=host)
        self.webhooks = WebhookReceiver(self.secret, host=host)

    def __enter__(self) -> Self:
        for server in (self.mail, self.payments, self.webhooks):
            server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in (self.mail, self.payments, self.webhooks):
            server.stop()

    def tend(self) -> None:
        """Do nothing: Docker restarts what has died."""


class Compose:
    """Runs the services in production mode, with random secrets, until the block ends.

    Args:
        counterparts: where mail, payments and webhooks go.
        services: what to start besides what has no profile.
    """

    def __init__(self, counterparts: Counterparts, *services: str) -> None:
        self._key = secrets.token_urlsafe(24)
        self._ports = {name: free_port() for name in ("API_PORT", "PROMETHEUS_PORT", "GRAFANA_PORT")}
        self._services = services
        self.environment = {
            "GOQUEUE_ENVIRONMENT": "production",
            "POSTGRES_PASSWORD": secrets.token_hex(24),
            "REDIS_PASSWORD": secrets.token_hex(24),
            "GOQUEUE_API_KEYS": hashlib.sha256(self._key.encode()).hexdigest(),
            "PROMETHEUS_API_KEY": self._key,
            "GOQUEUE_WEBHOOK_SECRET": counterparts.secret,
            "GOQUEUE_WEBHOOK_ALLOW_NETWORKS": counterparts.network,
            "GOQUEUE_SMTP_URL": counterparts.mail.url,
            "GOQUEUE_PAYMENT_URL": counterparts.payments.charges_url,
            "PUBLISH_ADDRESS": "127.0.0.1",
            **{name: str(port) for name, port in self._ports.items()},
        }

    def __enter__(self) -> Self:
        try:
            self.run("up", "--build", "--detach")
            if self._services:
                self._own_prometheus_volume()
                self.run("up", "--detach", "--no-deps", *self._services)
            self.wait_until_healthy()
        except BaseException as error:
            self._end(show_logs=True)
            raise error from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._end(show_logs=kind is not None)

    def client(self) -> httpx.Client:
        """A client of the API, with its key."""
        headers = {"Authorization": f"Bearer {self._key}"}
        return httpx.Client(base_url=self.api_url, headers=headers, timeout=30, trust_env=False)

    @property
    def api_url(self) -> str:
        """The root of the API."""
        return f"http://127.0.0.1:{self._ports['API_PORT']}"

    @property
    def prometheus_url(self) -> str:
        """The root of Prometheus."""
        return f"http://127.0.0.1:{self._ports['PROMETHEUS_PORT']}"

    def run(
        self, *arguments: str, check: bool = True, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a Compose command of this project."""
        command = [*_compose_command(), "--project-name", PROJECT, *arguments]
        return _run(command, {**self.environment, **environment}, check=check)

    def containers(self, service: str = "") -> list[dict[str, Any]]:
        """Ask Docker for the containers (of one service), those that have ended included."""
        filters = ["--filter", f"label=com.docker.compose.project={PROJECT}"]
        if service:
            filters += ["--filter", f"label=com.docker.compose.service={service}"]
        ids = docker("ps", "--all", "--quiet", *filters).split()
        return list(json.loads(docker("inspect", *ids))) if ids else []

    def is_healthy(self) -> bool:
        """Tell whether every container that has a health check is well."""
        states = {
            container["State"].get("Health", {}).get("Status")
            for container in self.containers()
            if container["Config"]["Healthcheck"]["Test"] != ["NONE"]
        }
        return states == {"healthy"}

    def wait_until_healthy(self) -> None:
        """Wait until every container is well."""
        wait_until(self.is_healthy, HEALTHY_SECONDS, "every container to be healthy", poll_seconds=1)

    def leading_scheduler(self) -> dict[str, Any]:
        """The scheduler that won the leadership last, as Docker knows it."""

        def won_at(container: dict[str, Any]) -> str:
            said = _run(["docker", "logs", container["Id"]], {}, check=True)
            lines = (said.stdout + said.stderr).splitlines()
            won = [json.loads(line)["timestamp"] for line in lines if '"leadership_won"' in line]
            return str(max(won, default=""))

        return max(self.containers("scheduler"), key=won_at)

    def crash(self, container: dict[str, Any]) -> str:
        """SIGKILL process 1 of a container from outside, as the kernel would; Docker starts it again.

        (`docker kill` would count as a wish to stop it. It takes root, and an engine on this machine.)

        Returns:
            The container's name.
        """
        os.kill(container["State"]["Pid"], signal.SIGKILL)
        return str(container["Name"].removeprefix("/"))

    def restarts(self, service: str) -> int:
        """Count how often Docker has started the containers of a service again."""
        return sum(container["RestartCount"] for container in self.containers(service))

    @staticmethod
    def _own_prometheus_volume() -> None:
        """Give the volume to Prometheus's user, as the official image does: a stand-in has no such folder."""
        volume = ["--volume", f"{PROJECT}_prometheus:/prometheus"]
        image = compose_file()["services"]["prometheus"]["image"]
        docker("run", "--rm", "--user", "0", "--entrypoint", "chown", *volume, image, "65534", "/prometheus")

    def _end(self, *, show_logs: bool) -> None:
        if show_logs:
            for container in self.containers():
                print(container["Name"], container["State"])  # noqa: T201  (for whoever looks for the cause)
            print(self.run("logs", "--tail", "40", check=False).stdout)  # noqa: T201
        self.run("--profile", "monitoring", "down", "--volumes", "--remove-orphans", check=False)


def _compose_command() -> list[str]:
    if _succeeds("docker", "compose", "version"):
        return ["docker", "compose"]
    return ["docker-compose"] if shutil.which("docker-compose") else []


def _succeeds(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _output(command: list[str]) -> str:
    return _run(command, {}, check=True).stdout


def _run(command: list[str], environment: dict[str, str], *, check: bool) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=UP_SECONDS,
    )
    assert not check or done.returncode == 0, f"{' '.join(command)}: {done.stdout}\n{done.stderr}"
    return done
