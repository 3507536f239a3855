"""The settings: every problem at once, secrets masked, and the way to a child process and back."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from goqueue.config.role_rules import rules_of
from goqueue.config.settings import Settings, environment_of, load_settings
from goqueue.errors import ConfigurationError

HASH = "0" * 64

#: A sign-in at a provider, as an environment has it.
SIGN_IN = {
    "API_KEYS_REQUIRED": "true",
    "OIDC_ISSUER": "https://sso.example.com/realms/shop",
    "OIDC_CLIENT_ID": "goqueue",
    "OIDC_ROLES": '[{"claim": "groups", "value": "ops", "roles": ["operator"]}]',
}


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine that runs the tests."""
    for name in list(os.environ):
        if name.startswith("GOQUEUE_"):
            monkeypatch.delenv(name)


def problems(**environment: str) -> list[str]:
    """What is wrong with an environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(f"GOQUEUE_{name}", value)
        with pytest.raises(ConfigurationError) as caught:
            load_settings()
    return caught.value.problems


def test_the_defaults_are_usable() -> None:
    """Without any setting there is no problem."""
    assert load_settings().worker_threads >= 1


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_described(name: str) -> None:
    """Each setting has one line that says what it is, and a time or size says its unit in its name."""
    description = Settings.model_fields[name].description
    assert description is not None
    assert description.endswith(".")
    assert "\n" not in description
    for word in ("timeout", "retention", "interval", "backoff", "heartbeat", "lease", "grace"):
        assert word not in name or name.endswith("_seconds")


def test_every_problem_is_listed_at_once() -> None:
    """Several wrong values and an unknown name are one error with a line for each."""
    found = problems(
        API_PORT="70000",
        WORKER_THREADS="none",
        DATABASE_URL="mysql://localhost/x",
        REDIS_URL="http://localhost",
        API_KEYS="secret",
        LOG_LEVEL="LOUD",
        NAMESPACE="with spaces",
        LEASE_SECONDS="0",
        WEBHOOK_ALLOW_NETWORKS="10.0.0.0/99",
        WORKER_THRAEDS="4",
    )
    named = {problem.partition(":")[0].removeprefix("GOQUEUE_") for problem in found}
    assert named == {
        "API_PORT",
        "WORKER_THREADS",
        "DATABASE_URL",
        "REDIS_URL",
        "API_KEYS",
        "LOG_LEVEL",
        "NAMESPACE",
        "LEASE_SECONDS",
        "WEBHOOK_ALLOW_NETWORKS",
        "WORKER_THRAEDS",
    }
    assert "GOQUEUE_WORKER_THRAEDS: there is no such setting" in found


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"LEASE_SECONDS": "5", "HEARTBEAT_SECONDS": "3"}, "GOQUEUE_LEASE_SECONDS"),
        ({"RUNWAY_MIN": "10", "RUNWAY_MAX": "5"}, "GOQUEUE_RUNWAY_MAX"),
        ({"MIN_BACKOFF_SECONDS": "10", "MAX_BACKOFF_SECONDS": "5"}, "GOQUEUE_MAX_BACKOFF_SECONDS"),
        ({**SIGN_IN, "OIDC_ROLES": "[]"}, "GOQUEUE_OIDC_ROLES"),
    ],
    ids=["lease", "runway", "backoff", "roles"],
)
def test_contradictions_are_problems(environment: dict[str, str], named: str) -> None:
    """Values that are fine alone and not together are named."""
    (problem,) = problems(**environment)
    assert problem.startswith(f"{named}: expected at least")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"OIDC_CLIENT_ID": None}, "GOQUEUE_OIDC_CLIENT_ID: expected one"),
        ({"API_KEYS_REQUIRED": None}, "GOQUEUE_OIDC_ISSUER: expected GOQUEUE_API_KEYS_REQUIRED=true"),
        ({"OIDC_ISSUER": "http://sso.example.com"}, "GOQUEUE_OIDC_ISSUER: expected https://"),
        ({"OIDC_PUBLIC_URL": "http://jobs.example.com"}, "GOQUEUE_OIDC_PUBLIC_URL: expected https://"),
        ({"OIDC_ISSUER": "sso.example.com"}, "GOQUEUE_OIDC_ISSUER: "),
        ({"OIDC_ISSUER": "https://u:p@sso.example.com"}, "GOQUEUE_OIDC_ISSUER: "),
        ({"OIDC_ISSUER": "https://sso.example.com/?x=y"}, "GOQUEUE_OIDC_ISSUER: "),
        ({"OIDC_PUBLIC_URL": "https://jobs.example.com/"}, "GOQUEUE_OIDC_PUBLIC_URL: "),
        ({"OIDC_SCOPES": "profile"}, "GOQUEUE_OIDC_SCOPES: expected scopes"),
        ({"OIDC_SCOPES": 'openid,a"b'}, "GOQUEUE_OIDC_SCOPES: expected scopes"),
        ({"OIDC_SESSION_SECONDS": "43201"}, "GOQUEUE_OIDC_SESSION_SECONDS: "),
        ({"OIDC_ROLES": "ops"}, "GOQUEUE_OIDC_ROLES: expected a JSON array"),
    ],
    ids=str,
)
def test_a_sign_in_that_cannot_be_meant_is_a_problem(change: dict[str, str | None], problem: str) -> None:
    """What is missing, what is open to everybody, and what would go over the wire in clear."""
    environment = {name: value for name, value in (SIGN_IN | change).items() if value is not None}
    (found,) = problems(**environment)
    assert found.startswith(problem)


def test_settings_of_a_sign_in_without_a_provider_are_problems() -> None:
    """Somebody meant something by them."""
    environment = {name: value for name, value in SIGN_IN.items() if name != "OIDC_ISSUER"}
    named = [problem.partition(":")[0] for problem in problems(**environment)]
    assert named == ["GOQUEUE_OIDC_CLIENT_ID", "GOQUEUE_OIDC_ROLES"]


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"OIDC_ISSUER": "http://127.0.0.1:8080/realms/shop"},
        {"OIDC_ISSUER": "http://[::1]:8080"},
        {"OIDC_ISSUER": "http://localhost"},
        {"OIDC_ISSUER": "http://keycloak:8080/realms/shop", "ENVIRONMENT": "dev"},
        {"OIDC_PUBLIC_URL": "https://jobs.example.com:8443", "OIDC_CLIENT_SECRET": "x"},
    ],
    ids=str,
)
def test_a_sign_in_that_can_be_meant_is_none(monkeypatch: pytest.MonkeyPatch, change: dict[str, str]) -> None:
    """Without TLS on this machine alone, or where somebody tries it out."""
    for name, value in (SIGN_IN | change).items():
        monkeypatch.setenv(f"GOQUEUE_{name}", value)
    assert load_settings().oidc_roles[0].roles == ("operator",)


def test_the_secret_of_the_provider_is_masked() -> None:
    """The rules are shown as they are."""
    settings = Settings(
        oidc_client_secret=SecretStr("hunter2"), oidc_roles=rules_of(json.loads(SIGN_IN["OIDC_ROLES"]))
    )
    assert "hunter2" in settings.secrets()
    assert settings.masked()["oidc_client_secret"] == "**********"
    assert json.loads(settings.masked()["oidc_roles"])[0]["value"] == "ops"


def test_no_problem_shows_a_secret() -> None:
    """A wrong URL is not repeated with its password."""
    text = " ".join(problems(DATABASE_URL="mysql://user:hunter2@host/db", SMTP_URL="ftp://user:hunter2@host"))
    assert "hunter2" not in text


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("database_url", "postgresql://user:hunter2@db:5432/x", "postgresql://**********@db:5432/x"),
        ("database_url", "postgresql://user@db/x", "postgresql://**********@db/x"),
        ("database_url", "postgresql://user:hunter2#?hunter2@db/x", "postgresql://**********@db/x"),
        ("database_url", "postgresql://user:hunter2@hunter2@db/x", "postgresql://**********@db/x"),
        (
            "redis_url",
            "redis://cache/0?username=u&password=hunter2",
            "redis://cache/0?username=**********&password=**********",
        ),
        ("redis_url", "redis://:hunter2@cache:6379/1", "redis://**********@cache:6379/1"),
        ("redis_url", "rediss://u:p%40hunter2@cache/1", "rediss://**********@cache/1"),
        ("smtp_url", "smtps://u:hunter2@[::1]:465", "smtps://**********@[::1]:465"),
        ("webhook_secret", "whsec_hunter2", "**********"),
        (
            "database_url",
            "postgresql://db/x?user=u&password=hunter2",
            "postgresql://db/x?user=**********&password=**********",
        ),
    ],
)
def test_secrets_are_masked(name: str, value: str, shown: str | None) -> None:
    """What `goqueue check` prints hides passwords and keeps the rest readable."""
    values: dict[str, Any] = {name: SecretStr(value)}
    masked = Settings(**values).masked()[name]
    assert "hunter2" not in str(masked)
    assert shown is None or masked == shown


@pytest.mark.parametrize("name", ["payment_url", "tracing_endpoint"])
def test_urls_that_are_no_secrets_are_masked_as_well(name: str) -> None:
    """Somebody may put a key into any URL, before its host or into its query."""
    values: dict[str, Any] = {name: "https://u:hunter2@host:1/path?key=hunter2"}
    masked = Settings(**values).masked()[name]
    assert masked == "https://**********@host:1/path?key=**********"


def test_nothing_masked_gives_a_secret_away() -> None:
    """Neither the settings' own text nor the masked values hold a secret."""
    settings = Settings(
        database_url=SecretStr("postgresql://u:hunter2@h/d"), webhook_secret=SecretStr("whsec_hunter2")
    )
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in str(settings.masked())


def test_secrets_of_receivers_are_masked() -> None:
    """A mapping of secrets shows whose they are and nothing of them; other texts of it are refused."""
    settings = Settings(webhook_secrets={"A.example": SecretStr("whsec_hunter2 whsec_hunter3")})
    assert settings.masked()["webhook_secrets"] == {"a.example": "**********"}
    assert {"whsec_hunter2", "whsec_hunter3"} <= set(settings.secrets())
    with pytest.raises(ValidationError, match="without a scheme and a port"):
        Settings(webhook_secrets={"https://a.example": SecretStr("whsec_x")})


ROUND_TRIPS: dict[str, dict[str, Any]] = {
    "urls": {
        "database_url": SecretStr("postgresql://u:p%2Fw@h:1/d"),
        "redis_url": SecretStr("unix:///tmp/x.sock"),
    },
    "numbers": {"worker_threads": 3, "heartbeat_seconds": 0.125, "fetch_block_seconds": 1e-05},
    "lists": {"actors": ("a.b", "c"), "api_keys": (HASH, "f" * 64), "worker_queues": ()},
    "networks": {"webhook_allow_networks": ("10.0.0.0/8", "::1/128")},
    "texts": {"log_format": "json", "failpoints": "after_push:kill:0.5,in_heartbeat:stop"},
    "a sign-in": {
        "api_keys_required": True,
        "oidc_issuer": "https://sso.example.com",
        "oidc_client_id": "goqueue",
        "oidc_client_secret": SecretStr("s, e"),
        "oidc_roles": rules_of(
            [
                {"claim": "a, b", "value": True, "roles": ["viewer"]},
                {"claim": "c", "value": 7, "roles": ["admin"]},
            ]
        ),
        "oidc_scopes": ("openid", "groups"),
    },
    "a secret": {"webhook_secret": SecretStr("whsec_x")},
    "secrets by host": {"webhook_secrets": {"a.example": SecretStr("whsec_x whsec_y")}},
}


@pytest.mark.parametrize(
    "values",
    [
        *(pytest.param(values, id=name) for name, values in ROUND_TRIPS.items()),
        pytest.param({"webhook_secret": None}, id="no secret"),
    ],
)
def test_a_child_process_gets_the_same_settings(values: dict[str, Any]) -> None:
    """Settings written to an environment and read from it are the same."""
    settings = Settings(**values)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment_of(settings).items():
            patch.setenv(name, value)
        assert load_settings() == settings


def test_overrides_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value given in the program replaces the one in the environment, which replaces the default."""
    monkeypatch.setenv("GOQUEUE_WORKER_THREADS", "5")
    assert load_settings().worker_threads == 5
    assert load_settings(worker_threads=6).worker_threads == 6


def test_lists_are_split_and_trimmed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Comma separated values lose their spaces and their empty parts."""
    monkeypatch.setenv("GOQUEUE_ACTORS", " shop.jobs, ,mail.jobs,")
    assert load_settings().actors == ("shop.jobs", "mail.jobs")
