"""What the container files promise: read, not run (`make test-compose` runs them)."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from goqueue.config.example_secrets import EXAMPLE_SECRETS
from goqueue.config.settings import Settings, load_settings
from goqueue.dev.embedded import free_port
from goqueue.dev.fakes.webhook_receiver import WebhookReceiver
from goqueue.errors import ConfigurationError
from goqueue.ops.processes import MARGIN_SECONDS

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ("migrate", "api", "worker", "quarantine", "scheduler")
DOCKERFILE = (ROOT / "Dockerfile").read_text()
EXAMPLE = dict(re.findall(r"^(\w+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))
SECRETS = ("POSTGRES_PASSWORD", "REDIS_PASSWORD", "GOQUEUE_API_KEYS", "GOQUEUE_WEBHOOK_SECRET")
HOLDERS = {
    "POSTGRES_PASSWORD": "GOQUEUE_DATABASE_URL",
    "REDIS_PASSWORD": "GOQUEUE_REDIS_URL",
    "GOQUEUE_API_KEYS": "GOQUEUE_API_KEYS",
    "GOQUEUE_WEBHOOK_SECRET": "GOQUEUE_WEBHOOK_SECRET",
}


def interpolated(text: str, values: dict[str, str]) -> str:
    """As Compose puts variables into a text: `${NAME:-default}`."""
    return re.sub(r"\$\{(\w+):-(.*?)\}", lambda found: values.get(found[1]) or found[2], text)


def settings_of(monkeypatch: pytest.MonkeyPatch, values: dict[str, str]) -> Settings:
    """The settings that a container gets from a `.env` with these values."""
    image = re.findall(r"(GOQUEUE_\w+)=(\S+)", DOCKERFILE)
    for name, text in [*image, *SERVICES["api"]["environment"].items()]:
        value = values.get(name) if text is None else interpolated(text, values)
        if value is not None:
            monkeypatch.setenv(name, value)
    return load_settings()


def own_secrets(**kept: str) -> dict[str, str]:
    """A `.env` for production, some of its secrets still the example's."""
    own = {
        "GOQUEUE_ENVIRONMENT": "production",
        "POSTGRES_PASSWORD": "a" * 48,
        "REDIS_PASSWORD": "b" * 48,
        "GOQUEUE_API_KEYS": hashlib.sha256(b"own").hexdigest(),
        "GOQUEUE_WEBHOOK_SECRET": "whsec_b3duIHNlY3JldCwgMzIgYnl0ZXMgb2YgaXQgb3Igc28=",
    }
    return own | kept


def test_compose_needs_no_env_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a `.env` every setting is usable, and the environment is dev, on the loopback only."""
    assert settings_of(monkeypatch, {}).environment == "dev"
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(published) == 3
    assert all(interpolated(port, {}).startswith("127.0.0.1:") for port in published)


def test_the_example_is_what_compose_falls_back_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """`.env.example` as it is changes nothing."""
    assert settings_of(monkeypatch, EXAMPLE) == settings_of(monkeypatch, {})
    assert {EXAMPLE[name] for name in SECRETS} == EXAMPLE_SECRETS
    (key,) = set(re.findall(r"gq_\w+", (ROOT / ".env.example").read_text()))
    assert hashlib.sha256(key.encode()).hexdigest() == EXAMPLE["GOQUEUE_API_KEYS"]


@pytest.mark.parametrize("kept", SECRETS)
def test_production_refuses_each_secret_of_the_example(monkeypatch: pytest.MonkeyPatch, kept: str) -> None:
    """One secret that is still the example's is one problem, which names the setting."""
    with pytest.raises(ConfigurationError) as caught:
        settings_of(monkeypatch, own_secrets(**{kept: EXAMPLE[kept]}))
    (problem,) = caught.value.problems
    assert problem.startswith(f"{HOLDERS[kept]}: expected a secret of your own")
    assert EXAMPLE[kept] not in problem


def test_production_refuses_an_example_password_in_disguise(monkeypatch: pytest.MonkeyPatch) -> None:
    """A password that is percent-encoded is recognised."""
    password = EXAMPLE["POSTGRES_PASSWORD"].replace("-", "%2D")
    with pytest.raises(ConfigurationError, match="GOQUEUE_DATABASE_URL"):
        settings_of(monkeypatch, own_secrets(POSTGRES_PASSWORD=password))


def test_production_takes_secrets_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """With all four replaced, everything starts in production."""
    assert settings_of(monkeypatch, own_secrets()).environment == "production"


def test_an_environment_is_dev_or_production(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anything else is refused, so that a slip of the pen does not accept the example's secrets."""
    with pytest.raises(ConfigurationError, match="GOQUEUE_ENVIRONMENT"):
        settings_of(monkeypatch, own_secrets(GOQUEUE_ENVIRONMENT="Dev"))


def test_git_ignores_the_secrets() -> None:
    """`.env` is never committed, its example is."""
    ignored = subprocess.run(["git", "check-ignore", ".env"], cwd=ROOT, check=False, capture_output=True)
    kept = subprocess.run(["git", "check-ignore", ".env.example"], cwd=ROOT, check=False, capture_output=True)
    assert (ignored.returncode, kept.returncode) == (0, 1)


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_hardened(name: str) -> None:
    """Nobody writes its root file system, has capabilities that it does not name, or gains privileges."""
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert name == "postgres" or "cap_add" not in service


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_has_limits(name: str) -> None:
    """Memory, processes and cores are bounded, and one core is enough to start."""
    service = SERVICES[name]
    assert re.fullmatch(r"\d+[mg]", service["mem_limit"])
    assert 0 < service["pids_limit"] <= 1024
    assert float(interpolated(str(service["cpus"]), {})) == 1


@pytest.mark.parametrize("name", ["requirements.lock", "requirements.image.lock"])
def test_what_is_installed_is_pinned_by_hashes(name: str) -> None:
    """Each requirement of a lock has a version and hashes, and names no place that it comes from."""
    text = (ROOT / name).read_text()
    pinned = [entry for entry in re.split(r"\n(?=\S)", text) if not entry.startswith("#")]
    assert len(pinned) > 20
    assert all(re.match(r"[\w.-]+==\S+", entry) and "--hash=sha256:" in entry for entry in pinned)
    assert "://" not in text


def test_the_image_gets_the_versions_that_are_tested() -> None:
    """The lock of the image is a part of the lock of the tests, and both are installed by their hashes."""
    versions = [
        set(re.findall(r"^[\w.-]+==\S+", (ROOT / name).read_text(), re.MULTILINE))
        for name in ("requirements.image.lock", "requirements.lock")
    ]
    assert versions[0] <= versions[1]
    assert "--require-hashes --requirement requirements.image.lock" in DOCKERFILE
    assert "--require-hashes --requirement requirements.lock" in (ROOT / "Makefile").read_text()


@pytest.mark.parametrize("name", SERVICES)
def test_every_image_has_a_full_version(name: str) -> None:
    """A tag names a version to the last number, so that two machines run the same."""
    assert re.fullmatch(r"[\w/]+:v?\d+\.\d+(\.\d+)?(-\w+)?", SERVICES[name]["image"])


@pytest.mark.parametrize("name", OURS)
def test_stopping_takes_no_longer_than_docker_waits(name: str) -> None:
    """Docker kills only after running jobs had their grace period and were given back."""
    seconds = int(SERVICES[name]["stop_grace_period"].removesuffix("s"))
    text = SERVICES[name]["environment"]["GOQUEUE_SHUTDOWN_GRACE_SECONDS"]
    assert seconds >= float(interpolated(text, {})) + MARGIN_SECONDS


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_has_a_health_check(name: str) -> None:
    """All but the migration, which ends, can be asked whether they are well."""
    check = SERVICES[name]["healthcheck"]
    assert check == {"disable": True} if name == "migrate" else "test" in check


@pytest.mark.parametrize("name", ["api", "worker", "quarantine", "scheduler"])
def test_nothing_starts_before_what_it_needs(name: str) -> None:
    """The servers are healthy and the schema is migrated before a process of ours starts."""
    assert SERVICES[name]["depends_on"] == {
        "postgres": {"condition": "service_healthy"},
        "redis": {"condition": "service_healthy"},
        "migrate": {"condition": "service_completed_successfully"},
    }


def test_the_servers_have_no_way_out() -> None:
    """PostgreSQL and Redis are on an internal network only, and publish nothing."""
    assert COMPOSE["networks"]["servers"]["internal"] is True
    for name in ("postgres", "redis"):
        assert SERVICES[name]["networks"] == ["servers"]
        assert "ports" not in SERVICES[name]


def test_there_are_two_schedulers_and_a_quarantine_of_one_thread() -> None:
    """One scheduler stands by; suspects run one at a time."""
    assert SERVICES["scheduler"]["deploy"]["replicas"] == 2
    expected = ["worker", "--queues", "quarantine", "--processes", "1", "--threads", "1"]
    assert SERVICES["quarantine"]["command"] == expected


def test_only_monitoring_is_optional() -> None:
    """Prometheus and Grafana come with the profile, everything else by itself."""
    optional = {name for name, service in SERVICES.items() if service.get("profiles") == ["monitoring"]}
    assert optional == {"prometheus", "grafana"}


def test_the_image_runs_as_nobody_under_an_init() -> None:
    """The final stage has a numeric user, tini, and nothing that compiles."""
    final = DOCKERFILE.rpartition("\nFROM ")[2]
    assert DOCKERFILE.count("\nFROM ") == 2
    assert re.search(r"^USER (\d+):(\d+)$", final, re.MULTILINE)
    assert 'ENTRYPOINT ["tini", "--", "goqueue"]' in final
    assert "HEALTHCHECK" in final
    assert re.findall(r"install --yes --no-install-recommends (.*) \\$", final, re.MULTILINE) == ["tini"]


@pytest.mark.parametrize(
    ("path", "code", "says"),
    [("/ok", 0, ""), ("/status/503", 1, "/status/503: 503"), ("/gone", 1, "/gone: 410")],
    ids=["well", "unwell", "gone"],
)
def test_the_health_check_tells_by_its_exit_code(path: str, code: int, says: str) -> None:
    """It ends with 0 where the answer is a success, else with 1 and what was answered."""
    with WebhookReceiver() as server:
        done = run_health_check(server.port, path)
    assert (done.returncode, done.stderr.partition(" {")[0].strip()) == (code, says)


def test_the_health_check_fails_where_nobody_listens() -> None:
    """A refused connection is a failure in one line."""
    done = run_health_check(free_port(), "/ok")
    assert done.returncode == 1
    assert "Connection refused" in done.stderr
    assert "Traceback" not in done.stderr


def run_health_check(port: int, path: str) -> subprocess.CompletedProcess[str]:
    """Run it as the containers do."""
    script = ROOT / "deploy/container/healthcheck.py"
    command = [sys.executable, "-IS", str(script), str(port), path]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_redis_evicts_nothing_and_knows_no_password() -> None:
    """The committed configuration has noeviction, and a place for the password's hash."""
    assert "maxmemory-policy noeviction\n" in (ROOT / "deploy/redis/redis.conf").read_text()
    users = (ROOT / "deploy/redis/users.acl").read_text().splitlines()
    assert [line.split()[1:3] for line in users] == [["default", "off"], ["goqueue", "on"]]
    assert "#PASSWORD_SHA256" in users[1].split()


def test_the_build_gets_only_what_it_copies() -> None:
    """Neither `.git` nor `.env` is sent to the builder."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE)
    allowed = [line.removeprefix("!") for line in lines if line.startswith("!")]
    for path in " ".join(copied).split():
        assert any(path == one or path.startswith(f"{one}/") for one in allowed), path
