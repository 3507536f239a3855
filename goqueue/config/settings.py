"""The settings of a process, in the only module that reads the environment.

Every setting is `GOQUEUE_` plus its name in capitals; the unit is in the name. `load_settings` raises one
`ConfigurationError` that lists every problem at once.
"""

# Longer than a module should be: a list, whose order is that of docs/settings.md and of the environment.

from __future__ import annotations

import functools
import ipaddress
import json
import os
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from goqueue.config.example_secrets import holds_example_secret
from goqueue.config.labels import MAX_VERSION, labels_of
from goqueue.config.namespaces import (
    DEFAULT_NAMESPACE,
    NAME_INSIDE,
    NAME_INSIDE_EXPECTED,
    read_namespaces,
    schema_of_namespace,
)
from goqueue.config.payload_key_list import parse_payload_keys, payload_key_pairs
from goqueue.config.redaction import masked_url
from goqueue.config.redis_url import parse_redis_url
from goqueue.config.role_rules import RoleRule, rules_as_text, rules_of
from goqueue.errors import ConfigurationError

#: Makes of event loops.
EventLoopKind = Literal["auto", "asyncio", "uvloop"]

#: A wait, an interval or a time-out: at most a day, which every timer of Python and PostgreSQL can hold.
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
#: How long something is kept: at most a hundred years, for whoever means for ever.
Retention = Annotated[float, Field(gt=0, le=100 * 366 * 86_400, allow_inf_nan=False)]
#: A backoff: no job is put off for longer than ten years.
Backoff = Annotated[float, Field(gt=0, le=10 * 366 * 86_400, allow_inf_nan=False)]
#: What fits into one value of PostgreSQL, and a count of jobs that fits into its integers.
MAX_BYTES = 1_000_000_000
MAX_JOBS = 1_000_000

SESSION_SECRET_MIN_CHARACTERS = 32
#: The longest session of the dashboard: a working day.
SESSION_MAX_SECONDS = 12 * 3600
HOST_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")
#: As RFC 6749 writes the token of a scope.
OIDC_SCOPE = re.compile(r"[\x21\x23-\x2b\x2d-\x5b\x5d-\x7e]+")
API_KEY = re.compile(r"([A-Za-z0-9_.-]{1,64}:)?[0-9a-f]{64}")


class Settings(BaseSettings):
    """The settings of a process of GoQueue, each with its default."""

    model_config = SettingsConfigDict(env_prefix="GOQUEUE_", extra="forbid", frozen=True)

    environment: str = Field(
        "production",
        pattern="^(dev|production)$",
        description="dev accepts the secrets of .env.example; production refuses to start with them.",
    )

    # Servers
    database_url: SecretStr = Field(
        SecretStr("postgresql://postgres@127.0.0.1:5432/goqueue"),
        description="PostgreSQL, as a libpq URL; of several hosts (a:5432,b:5432) the one that takes writes.",
    )
    database_direct_url: SecretStr | None = Field(
        None,
        description="PostgreSQL without the pooler: set it where database_url leads through PgBouncer in "
        "transaction mode. The leadership and migrations need a session of their own.",
    )
    read_database_url: SecretStr | None = Field(
        None, description="A read replica for lists, statistics and groups of failures; None is database_url."
    )
    redis_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="Redis or Valkey, 7.0 up: redis://, rediss://, unix://; redis+sentinel://host,host/name; "
        "redis+cluster://host,host.",
    )
    namespace: str = Field(
        "goqueue",
        pattern=r"^[a-zA-Z0-9_.-]+$",
        description="Prefix of every Redis key; and, with a namespaces_file, whose servers these are.",
    )
    namespaces_file: str | None = Field(
        None,
        description="A TOML file with the servers of several installations, a table for each namespace; the "
        "API answers for all of them. None is one installation.",
    )
    database_namespace: str | None = Field(
        None,
        pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$",
        description="A namespace inside of the database (`goqueue namespaces create`), to which this process "
        "belongs: a schema and a Redis prefix of its own. None is the installation itself.",
    )
    database_pool_size: int = Field(10, ge=1, le=200, description="Connections kept by one process.")
    database_connect_timeout_seconds: int = Field(
        3, ge=1, le=86_400, description="Give up connecting after this."
    )
    database_statement_timeout_seconds: Seconds = Field(
        30.0, description="PostgreSQL ends a statement of ours after this."
    )
    database_lock_timeout_seconds: Seconds = Field(
        5.0, description="PostgreSQL ends a statement of ours that waits so long for one lock."
    )
    database_idle_transaction_timeout_seconds: Seconds = Field(
        10.0, description="PostgreSQL ends a transaction of ours in which nothing was said for so long."
    )
    redis_timeout_seconds: Seconds = Field(2.0, description="Connecting to, and one answer of, Redis.")

    # API
    api_host: str = Field("127.0.0.1", description="The address that `goqueue api` binds.")
    api_port: int = Field(8000, ge=0, le=65535, description="The port that `goqueue api` binds.")
    api_processes: int = Field(2, ge=1, le=64, description="gunicorn worker processes.")
    api_threads: int = Field(
        8,
        ge=1,
        le=256,
        description="Threads of one gunicorn worker process; of several namespaces each has so many.",
    )
    api_connections_max: int = Field(
        4096,
        ge=16,
        description="Connections of one gunicorn worker process; with more, the client that has let it wait "
        "for the longest has to go.",
    )
    api_streams_max: int = Field(
        2000,
        ge=1,
        description="Streams and long polls that one gunicorn worker process keeps at once; further ones are "
        "answered with 503, or at once.",
    )
    api_head_seconds: Seconds = Field(10.0, description="How long the header of a request may take to come.")
    api_body_seconds: Seconds = Field(
        30.0,
        description="How long a body may take to come; each 16 KiB of it give it a second more.",
    )
    api_write_seconds: Seconds = Field(
        30.0, description="How long a client may take to read an answer; each 16 KiB give it a second more."
    )
    api_buffer_max_bytes: int = Field(
        128 * 1024 * 1024,
        ge=1024 * 1024,
        description="What one gunicorn worker process holds of incoming requests and outgoing answers.",
    )
    api_rate_per_second: float = Field(
        0,
        ge=0,
        description="Requests a second of one API key, in each gunicorn worker process; 0 is no limit.",
    )
    api_rate_burst: int = Field(
        100, ge=1, description="Requests that a key may make at once after a pause, where there is a limit."
    )
    api_expensive_concurrency: int = Field(
        4,
        ge=0,
        description="Expensive requests of one API key that a gunicorn worker process answers at once; "
        "0 is no limit.",
    )
    api_keys: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="SHA-256 hashes (hex) of the accepted bearer keys, comma separated; name:hash gives one "
        "a name. Keys of one name are of one client.",
    )
    api_keys_required: bool = Field(
        default=False,
        description="Requests need a key also where api_keys has none: one of `goqueue keys create`.",
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Host names that an API without keys answers to besides loopback, comma separated.",
    )
    job_max_bytes: int = Field(
        1024 * 1024, ge=1024, le=MAX_BYTES, description="The largest request for one job."
    )
    batch_max_bytes: int = Field(
        32 * 1024 * 1024, ge=1024, le=MAX_BYTES, description="The largest request for a batch."
    )
    idempotency_retention_seconds: Retention = Field(86_400.0, description="How long a key is remembered.")

    # Contents of jobs
    payload_keys: SecretStr | None = Field(
        None,
        description="Keys that what jobs hold is encrypted with at rest, as id:base64 of 32 bytes, comma "
        "separated; the first one encrypts, all decrypt. `goqueue payload-keys new` makes one.",
    )
    encrypt_payloads: bool = Field(
        default=False,
        description="Jobs of every type are encrypted at rest that does not say `encrypt=False`.",
    )
    payload_keys_interval_seconds: Seconds = Field(
        10.0,
        description="How often the scheduler looks for jobs of another key than the first one.",
    )

    # Dashboard
    dashboard: bool = Field(default=True, description="Whether `goqueue api` serves /dashboard.")
    session_secret: SecretStr | None = Field(
        None,
        description="What cookies and forms of the dashboard are signed with; None is a secret that the "
        "service makes for itself in PostgreSQL.",
    )
    dashboard_read_only: bool = Field(
        default=False, description="The dashboard shows everything and changes nothing."
    )

    # Sign-in to the dashboard by OpenID Connect
    oidc_issuer: str | None = Field(
        None,
        pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?$",
        description="The OpenID Connect provider, exactly as it calls itself: https://sign-in.example.com/realms/"
        "shop; None is sign-in by key alone.",
    )
    oidc_client_id: str | None = Field(
        None, min_length=1, max_length=300, description="What the provider calls this service."
    )
    oidc_client_secret: SecretStr | None = Field(
        None,
        description="The secret of this service at the provider; None is a public client, with PKCE alone.",
    )
    oidc_scopes: Annotated[tuple[str, ...], NoDecode] = Field(
        ("openid", "profile", "email"),
        description="The scopes that are asked of the provider, comma separated; openid is one of them.",
    )
    oidc_roles: Annotated[tuple[RoleRule, ...], NoDecode] = Field(
        (),
        description="The roles of those who sign in, as JSON: "
        '[{"claim": "groups", "value": "ops", "roles": ["operator"]}]; all rules that match count.',
    )
    oidc_name_claim: str = Field(
        "name", min_length=1, max_length=300, description="The claim that says what somebody is called."
    )
    oidc_display_name: str | None = Field(
        None,
        min_length=1,
        max_length=60,
        description="What the login calls the provider; None is the host of the issuer.",
    )
    oidc_public_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s/?#@]+$",
        description="The scheme and the host of this service, as browsers and the provider know it: "
        "https://jobs.example.com; None is what each request was sent to.",
    )
    oidc_session_seconds: float = Field(
        SESSION_MAX_SECONDS,
        ge=60,
        le=SESSION_MAX_SECONDS,
        description="How long a sign-in by OpenID Connect is good; then the provider is asked again.",
    )
    oidc_timeout_seconds: float = Field(
        5.0, gt=0, le=60, description="How long one answer of the provider may take, as a whole."
    )

    # Workers
    actors: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Modules that declare job types, comma separated, besides the three built in."
    )
    worker_processes: int = Field(2, ge=1, le=256, description="Processes that `goqueue worker` keeps alive.")
    worker_threads: int = Field(8, ge=1, le=256, description="Worker threads of one process.")
    worker_async_slots: int = Field(
        100, ge=1, le=10_000, description="Jobs of `async def` types that one process runs at once."
    )
    worker_event_loop: EventLoopKind = Field(
        "auto", description="The event loop of async jobs; auto is uvloop where it is installed."
    )
    worker_async_grace_seconds: Seconds = Field(
        5.0, description="How long an async handler that was cancelled may clean up."
    )
    worker_queues: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Queues that the workers serve, comma separated; empty is all."
    )
    worker_labels: Annotated[Mapping[str, str], NoDecode] = Field(
        default_factory=dict,
        description="What the workers are, for jobs that require it: gpu=true,region=eu, or JSON.",
    )
    worker_version: int = Field(
        0,
        ge=0,
        le=MAX_VERSION,
        description="The version of what the workers run, for jobs that need one at least; 0 is none.",
    )
    shutdown_grace_seconds: Seconds = Field(
        30.0, description="How long running jobs may finish after SIGTERM; the rest go back unspent."
    )
    worker_child_processes: int | None = Field(
        None,
        ge=1,
        le=256,
        description="Child processes of a worker process, for types with process=True; None: one a thread.",
    )
    worker_max_jobs: int | None = Field(
        None,
        ge=1,
        le=1_000_000_000,
        description="A worker process that has run so many jobs is replaced; None: it is not.",
    )
    worker_max_memory_mib: int | None = Field(
        None,
        ge=32,
        le=1_048_576,
        description="A worker process that takes so much memory for itself is replaced; None: it is not.",
    )
    lifespan_close_seconds: Seconds = Field(
        5.0, description="How long the lifespans of a worker process may take to close, all together."
    )
    time_limit_seconds: Seconds = Field(
        600.0, description="The longest run of an attempt, where none is set."
    )
    fetch_block_seconds: Seconds = Field(1.0, description="How long one blocking fetch waits in Redis.")
    prefetch_seconds: float = Field(
        0.025,
        ge=0,
        le=86_400,
        description="Claim this much work ahead of free threads; jobs longer than it are never.",
    )
    prefetch_max: int = Field(
        512, ge=0, le=MAX_JOBS, description="The most jobs claimed ahead by one process."
    )
    recorder_batch_max: int = Field(500, ge=1, le=5000, description="The most outcomes in one commit.")
    recorder_pending_max: int = Field(
        2000, ge=1, le=MAX_JOBS, description="Unrecorded outcomes at which fetching stops."
    )
    max_retries: int = Field(3, ge=0, le=20, description="Retries after the first run, where none is set.")
    min_backoff_seconds: Backoff = Field(1.0, description="The wait before the first retry.")
    max_backoff_seconds: Backoff = Field(3600.0, description="No backoff is longer.")
    max_deaths: int = Field(
        3,
        ge=1,
        le=1_000,
        description="Deaths of its worker, while it ran alone, after which a job is failed.",
    )
    unreadable_payload_wait_seconds: float = Field(
        600.0,
        ge=0,
        le=30 * 86_400,
        description="How long a job whose payload a worker cannot read waits for one with another schema of "
        "its type, before it is failed; 0 fails it at once.",
    )
    result_max_bytes: int = Field(
        1024 * 1024, ge=1024, le=MAX_BYTES, description="The largest result that is kept."
    )

    # Leases
    heartbeat_seconds: Seconds = Field(3.0, description="How often a worker process renews its lease.")
    lease_seconds: Seconds = Field(15.0, description="A worker silent for this long has lost its jobs.")

    # Cancelling
    cancel_cooperation_seconds: float = Field(
        1.0,
        ge=0,
        le=86_400,
        description="How long a handler that is told to stop may go on before it is interrupted.",
    )
    cancel_grace_seconds: Seconds = Field(
        10.0,
        description="A job is cancelled without its worker when that does not acknowledge the request, "
        "or then does not stop the handler, for this long.",
    )

    # Progress and logs
    attempt_log_max_bytes: int = Field(
        64 * 1024, ge=1024, le=MAX_BYTES, description="The most that is kept of the log of one attempt."
    )
    attempt_output_max_bytes: int = Field(
        1024 * 1024, ge=1024, le=MAX_BYTES, description="The most that is kept of what one attempt streams."
    )

    # Dispatching
    priority_head_start_seconds: float = Field(
        60.0, ge=0, le=86_400, description="How much earlier one step of priority puts a job in the order."
    )
    runway_min: int = Field(64, ge=1, le=MAX_JOBS, description="The shortest runway of a queue, in jobs.")
    runway_max: int = Field(2048, ge=1, le=MAX_JOBS, description="The longest runway of a queue, in jobs.")
    dispatch_idle_seconds: Seconds = Field(0.1, description="How often an idle dispatcher looks.")
    dispatch_busy_seconds: float = Field(
        0.005, ge=0, le=86_400, description="Its pause while there is a backlog."
    )
    slow_down_ramp_seconds: Seconds = Field(
        10.0, description="How long a queue ramps up after a slow-down, where it has no ramp of its own."
    )
    lost_push_seconds: Seconds = Field(
        2.0, description="A pushed job still queued after this is looked for in the runway."
    )

    # Services
    leader_check_seconds: Seconds = Field(
        1.0, description="How often the leader renews its lease, and a standby looks at it."
    )
    leader_lease_seconds: Seconds = Field(
        10.0, description="A leader that has not renewed its lease for this long leads no more."
    )
    rescue_interval_seconds: Seconds = Field(1.0, description="How often lost jobs are looked for.")
    expire_interval_seconds: Seconds = Field(1.0, description="How often expired jobs are looked for.")
    release_interval_seconds: Seconds = Field(
        5.0, description="How often blocked jobs that nobody released are looked for."
    )
    flow_interval_seconds: Seconds = Field(
        0.5, description="How often circuit breakers and ends of pauses are looked at."
    )
    bulk_interval_seconds: Seconds = Field(0.2, description="How often idle bulk operations are looked at.")
    schedule_interval_seconds: Seconds = Field(0.2, description="How often due schedules are looked for.")
    schedule_late_seconds: Seconds = Field(
        30.0, description="A tick decided so late was missed: the catch-up policy of its schedule applies."
    )
    rollup_interval_seconds: Seconds = Field(
        2.0, description="How often what ended is counted for the dashboard."
    )
    clean_interval_seconds: Seconds = Field(60.0, description="How often old jobs are deleted.")
    completed_retention_seconds: Retention = Field(
        7 * 86_400.0, description="Age at which completed jobs go."
    )
    failed_retention_seconds: Retention = Field(90 * 86_400.0, description="Age at which dead letters go.")
    cancelled_retention_seconds: Retention = Field(
        7 * 86_400.0, description="Age at which cancelled jobs go."
    )
    expired_retention_seconds: Retention = Field(7 * 86_400.0, description="Age at which expired jobs go.")
    partition_jobs: int | None = Field(
        None,
        ge=1000,
        le=1_000_000_000,
        description="How many jobs a partition takes, where jobs are in partitions; by default as many as "
        "come in an eighth of the time for which completed jobs are kept.",
    )
    tick_retention_seconds: Retention = Field(
        90 * 86_400.0, description="How long the history of a schedule is kept."
    )
    audit_retention_seconds: Retention = Field(
        366 * 86_400.0, description="Age at which a month of the audit log goes, as a whole."
    )
    event_retention_seconds: Retention = Field(
        4 * 3600.0, description="How long a client that was away may go on where it stopped (GET /events)."
    )
    worker_retention_seconds: Retention = Field(3600.0, description="How long a gone worker is still listed.")

    # Built-in job types
    smtp_url: SecretStr = Field(
        SecretStr("smtp://127.0.0.1:25"),
        description="smtp://, smtp+starttls:// or smtps://, with user:password@ for a login.",
    )
    smtp_sender: str = Field("goqueue@localhost", description="The From address of send_email.")
    smtp_timeout_seconds: Seconds = Field(10.0, description="Each step of an SMTP conversation.")
    payment_url: str = Field("http://127.0.0.1:9000/charges", description="The payment gateway.")
    payment_timeout_seconds: Seconds = Field(10.0, description="The answer of the payment gateway.")
    webhook_secret: SecretStr | None = Field(
        None,
        description="Standard Webhooks secret (whsec_…) of the receivers that webhook_secrets does not name; "
        "two with a space between them while it changes; None sends unsigned.",
    )
    webhook_secrets: Mapping[str, SecretStr] = Field(
        default_factory=dict,
        description='The secrets of single receivers, as JSON: {"host": "whsec_…"}; two with a space between '
        "them while one changes.",
    )
    webhook_allow_networks: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Networks that webhooks may reach although they are not global, comma separated."
    )

    webhook_interval_seconds: Seconds = Field(
        0.5, description="How often events are looked for that webhooks are told of (`POST /webhooks`)."
    )
    webhook_disable_after_seconds: Retention = Field(
        5 * 86_400.0, description="A webhook is disabled when every attempt has failed for so long."
    )
    webhook_retention_seconds: Retention = Field(
        14 * 86_400.0, description="Age at which deliveries of webhooks go from their log."
    )

    # Monitoring
    metrics_host: str = Field(
        "127.0.0.1", description="The address of the metrics ports of workers and scheduler."
    )
    worker_metrics_port: int = Field(
        9191,
        ge=0,
        le=65535,
        description="Where a group of worker processes tells its metrics and health; 0 is nowhere.",
    )
    scheduler_metrics_port: int = Field(
        9192, ge=0, le=65535, description="Where a scheduler tells its metrics and health; 0 is nowhere."
    )
    metrics_folder: str | None = Field(
        None, description="Where the processes of a group share what they count; None is a temporary folder."
    )
    liveness_seconds: Seconds = Field(
        30.0, description="A loop that has not turned for this long fails /health/live of its process."
    )
    horizon_interval_seconds: Seconds = Field(
        10.0, description="How often transactions that hold back vacuum are looked for."
    )
    horizon_warning_seconds: Seconds = Field(
        60.0, description="A transaction that holds back vacuum for this long is warned of."
    )

    # Traces
    tracing_endpoint: str | None = Field(
        None,
        pattern=r"^https?://[^\s/]+",
        description="Where spans go, as OTLP over HTTP: http://collector:4318/v1/traces; None makes none.",
    )
    tracing_sample_ratio: float = Field(
        1.0, ge=0, le=1, description="The share of traces that are kept, where the client has not decided."
    )

    # Logs
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR|CRITICAL)$", description="The least.")
    log_format: str = Field(
        "auto", pattern="^(auto|console|json)$", description="console, json, or by whether it is a terminal."
    )

    # Tests
    failpoints: str = Field("", description="Faults to inject, point:action:probability, comma separated.")

    @field_validator(
        "api_keys",
        "allowed_hosts",
        "actors",
        "worker_queues",
        "webhook_allow_networks",
        "oidc_scopes",
        mode="before",
    )
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("worker_labels", mode="before")
    @classmethod
    def _read_labels(cls, value: Any) -> Any:
        return labels_of(value)

    @field_validator("oidc_roles", mode="before")
    @classmethod
    def _read_roles(cls, value: Any) -> Any:
        return rules_of(value)

    @field_validator("oidc_scopes")
    @classmethod
    def _check_scopes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if "openid" not in value or not all(OIDC_SCOPE.fullmatch(scope) for scope in value):
            raise ValueError("expected scopes of OpenID Connect, comma separated, openid among them")
        return value

    @field_validator("api_keys")
    @classmethod
    def _check_keys(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for key in value:
            if not API_KEY.fullmatch(key):
                raise ValueError(
                    "expected SHA-256 hashes of 64 hex digits (make one with `goqueue key`), or name:hash "
                    "with a name of letters, digits, _, . and -"
                )
        return value

    @field_validator("webhook_secrets")
    @classmethod
    def _check_receivers(cls, value: Mapping[str, SecretStr]) -> Mapping[str, SecretStr]:
        for host in value:
            if not HOST_NAME.fullmatch(host):
                raise ValueError("expected the host names of receivers without a scheme and a port")
        return {host.lower().rstrip("."): secret for host, secret in value.items()}

    @field_validator("payload_keys")
    @classmethod
    def _check_payload_keys(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            parse_payload_keys(value.get_secret_value())
        return value

    @field_validator("session_secret")
    @classmethod
    def _check_session_secret(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < SESSION_SECRET_MIN_CHARACTERS:
            raise ValueError(f"expected at least {SESSION_SECRET_MIN_CHARACTERS} characters")
        return value

    @field_validator("allowed_hosts")
    @classmethod
    def _check_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for host in value:
            if not HOST_NAME.fullmatch(host):
                raise ValueError("expected host names or IPv4 addresses without a scheme and a port")
        return tuple(host.lower().rstrip(".") for host in value)

    @field_validator("webhook_allow_networks")
    @classmethod
    def _check_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            ipaddress.ip_network(network)
        return value

    @field_validator("database_url", "database_direct_url", "read_database_url")
    @classmethod
    def _check_database_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            _expect_scheme(value, {"postgresql", "postgres"})
            _expect_ports(value.get_secret_value())
        return value

    @field_validator("redis_url")
    @classmethod
    def _check_redis_url(cls, value: SecretStr) -> SecretStr:
        parse_redis_url(value.get_secret_value())
        return value

    @field_validator("smtp_url")
    @classmethod
    def _check_smtp_url(cls, value: SecretStr) -> SecretStr:
        return _expect_scheme(value, {"smtp", "smtps", "smtp+starttls"})

    @property
    def needs_api_key(self) -> bool:
        """Whether a request needs a key."""
        return bool(self.api_keys) or self.api_keys_required

    @property
    def oidc_provider_name(self) -> str | None:
        """The name of the OpenID Connect provider for people; None: there is none."""
        if self.oidc_issuer is None:
            return None
        return self.oidc_display_name or urlsplit(self.oidc_issuer).netloc

    @property
    def has_pooler(self) -> bool:
        """Tell whether `database_url` leads through a pooler that gives each transaction another session."""
        return self.database_direct_url is not None

    def without_pooler(self) -> Settings:
        """Return settings that avoid the pooler, for what needs a session of PostgreSQL of its own."""
        if self.database_direct_url is None:
            return self
        return self.model_copy(update={"database_url": self.database_direct_url, "database_direct_url": None})

    def for_reading(self) -> Settings:
        """Return settings that name the read replica, if there is one, for reads that may be a moment old."""
        if self.read_database_url is None:
            return self
        url = self.read_database_url.get_secret_value()
        if "target_session_attrs=" not in url:
            url += f"{'&' if '?' in url else '?'}target_session_attrs=any"
        return self.model_copy(update={"database_url": SecretStr(url)})

    @property
    def schema_name(self) -> str | None:
        """The schema of the namespace inside of the database; None: whichever the URL leads to."""
        if self.database_namespace is None:
            return None
        return schema_of_namespace(self.namespace, self.database_namespace)

    @property
    def key_prefix(self) -> str:
        """The text before each key in Redis; those of `goqueue` cover those of its namespaces, for an ACL."""
        if self.database_namespace is None:
            return self.namespace
        return f"{self.namespace}:{self.database_namespace}"

    @property
    def is_one_of_several(self) -> bool:
        """Whether these are the settings of a namespace, which log lines, metrics and pages name."""
        return self.namespaces_file is not None or self.database_namespace is not None

    @property
    def name_of_namespace(self) -> str:
        """The name that people know the namespace by."""
        return self.database_namespace or self.namespace

    def within(self, name: str | None) -> Settings:
        """Return the settings of a namespace inside of this database; None: of the installation itself.

        They avoid a pooler: one that gives each transaction another session forgets the schema.
        """
        if name is None:
            return self.model_copy(update={"database_namespace": None})
        if not NAME_INSIDE.fullmatch(name):
            raise ConfigurationError([f"GOQUEUE_DATABASE_NAMESPACE: {NAME_INSIDE_EXPECTED}"])
        return self.without_pooler().model_copy(update={"database_namespace": name})

    def of_namespace(self, name: str) -> Settings:
        """Return the settings of another namespace: of the file; without one, inside of the database.

        Whether there is one inside of the database is not asked here: a connection to one that is not there
        is refused.

        Raises:
            ConfigurationError: the file has no such namespace, or something is wrong with it; or no
                namespace can have this name.
        """
        if self.namespaces_file is not None:
            return self.of_file(name)
        return self.within(None if name in {DEFAULT_NAMESPACE, self.namespace} else name)

    def of_file(self, name: str) -> Settings:
        """Return the settings of another namespace: these, with the servers that the namespaces_file names.

        Raises:
            ConfigurationError: the file has no such namespace, or something is wrong with it; or there is no
                file.
        """
        servers = {} if self.namespaces_file is None else read_namespaces(self.namespaces_file)
        if name not in servers:
            known = f"one of {', '.join(servers)}" if servers else "a GOQUEUE_NAMESPACES_FILE that names it"
            raise ConfigurationError([f"GOQUEUE_NAMESPACE: expected {known}, got {name!r}"])
        # What the file says of the servers of this one is not meant for another.
        given = {setting: getattr(self, setting) for setting in self.model_fields_set - _said_of(self)}
        try:
            return Settings(**{**given, **servers[name], "namespace": name})
        except ValidationError as error:
            found = [_problem(item) for item in error.errors(include_url=False)]
            raise ConfigurationError([f"GOQUEUE_NAMESPACES_FILE: {name}: {line}" for line in found]) from None

    def names_of_namespaces(self) -> list[str]:
        """Return the names of all namespaces, in the order of the file; without one, that of this one.

        Raises:
            ConfigurationError: something is wrong with the file.
        """
        if self.namespaces_file is None:
            return [self.namespace]
        return list(read_namespaces(self.namespaces_file))

    def of_all_namespaces(self) -> dict[str, Settings]:
        """Return the settings of every namespace, by name; those of this one alone where there is no file.

        Raises:
            ConfigurationError: as `of_namespace`, with the problems of all.
        """
        if self.namespaces_file is None:
            return {self.namespace: self}
        found: dict[str, Settings] = {}
        problems: list[str] = []
        for name in self.names_of_namespaces():
            try:
                found[name] = self.of_file(name)
            except ConfigurationError as error:
                problems += error.problems
        if problems:
            raise ConfigurationError(problems)
        return found

    def secrets(self) -> list[str]:
        """The values of every secret: what is taken out of log lines and stored errors."""
        own = [value for name, value in self if isinstance(value, SecretStr) and name != "payload_keys"]
        parts = [text for value in (*own, *self.webhook_secrets.values()) for text in _parts_of(value)]
        if self.payload_keys is not None:
            parts += [encoded for _, encoded in payload_key_pairs(self.payload_keys.get_secret_value())]
        return parts

    def masked(self) -> dict[str, Any]:
        """The effective values with every secret hidden: what `goqueue check` prints."""
        return {name: _mask(value) for name, value in self}


def load_settings(**overrides: Any) -> Settings:
    """The settings of this process: overrides, then the environment, then the defaults.

    Raises:
        ConfigurationError: with one line for every problem.
    """
    problems = _unknown_variables(os.environ)
    try:
        settings = Settings(**overrides)
    except ValidationError as error:
        problems += [_problem(item) for item in error.errors(include_url=False)]
        raise ConfigurationError(problems) from None
    if settings.namespaces_file is not None:
        try:
            # All are looked at: who starts one process learns what is wrong for the others.
            settings.of_all_namespaces()
            settings = settings.of_file(settings.namespace)
        except ConfigurationError as error:
            problems += error.problems
    problems += _contradictions(settings)
    if problems:
        raise ConfigurationError(problems)
    return settings if settings.database_namespace is None else settings.within(settings.database_namespace)


@functools.cache
def get_settings() -> Settings:
    """The settings that this process was started with, read once."""
    return load_settings()


def environment_of(settings: Settings) -> dict[str, str]:
    """The environment that gives a child process these settings: the present one, and what is set here."""
    environment = dict(os.environ)
    # What the file of namespaces says, the child reads there itself.
    for name in settings.model_fields_set - _said_of(settings):
        value = getattr(settings, name)
        if value is None:
            environment.pop(f"GOQUEUE_{name.upper()}", None)
        else:
            environment[f"GOQUEUE_{name.upper()}"] = _as_text(value)
    return environment


def _said_of(settings: Settings) -> set[str]:
    """The settings that the file of namespaces has for the namespace of these."""
    if settings.namespaces_file is None:
        return set()
    return set(read_namespaces(settings.namespaces_file).get(settings.namespace, ()))


def belong_to(namespace: str) -> None:
    """Let this process, and the children that it starts, belong to a namespace, as `--namespace` asks.

    One of the file of namespaces; where there is none, one inside of the database.
    """
    if os.environ.get("GOQUEUE_NAMESPACES_FILE"):
        os.environ["GOQUEUE_NAMESPACE"] = namespace
    elif namespace in {DEFAULT_NAMESPACE, _name_of_installation()}:
        os.environ.pop("GOQUEUE_DATABASE_NAMESPACE", None)
    else:
        os.environ["GOQUEUE_DATABASE_NAMESPACE"] = namespace


def _name_of_installation() -> str:
    return os.environ.get("GOQUEUE_NAMESPACE") or str(Settings.model_fields["namespace"].default)


def share_metrics_in(folder: str) -> None:
    """Tell prometheus_client, which looks at the environment, where a group of processes shares metrics."""
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder


def _as_text(value: Any) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, tuple):
        return rules_as_text(value) if _are_rules(value) else ",".join(value)
    if isinstance(value, Mapping):
        return json.dumps({name: _as_text(item) for name, item in value.items()})
    return str(value)


def _are_rules(value: tuple[Any, ...]) -> bool:
    return any(isinstance(item, RoleRule) for item in value)


def _expect_scheme(value: SecretStr, schemes: set[str]) -> SecretStr:
    scheme = urlsplit(value.get_secret_value()).scheme
    if scheme not in schemes:
        raise ValueError(
            f"expected a URL with one of the schemes {', '.join(sorted(schemes))}, got {scheme!r}"
        )
    return value


def _expect_ports(url: str) -> None:
    """Each of the hosts of a libpq URL has a port that there is, or none.

    As libpq reads it: what stands before the first @, if no / stands before that, is the user and the
    password, whatever else is in it.
    """
    rest = url.partition("://")[2]
    if "@" in rest.partition("/")[0]:
        rest = rest.partition("@")[2]
    netloc = re.split(r"[/?]", rest, maxsplit=1)[0]
    query = dict(parse_qsl(rest.partition("?")[2]))
    ports = [host.rpartition("]")[2].partition(":")[2] for host in netloc.split(",")]
    for port in [*ports, *query.get("port", "").split(",")]:
        if port and not (re.fullmatch(r"[0-9]{1,5}", port) and 0 < int(port) <= 65535):  # noqa: PLR2004  (the greatest port)
            raise ValueError("expected a port from 1 to 65535 behind the colon of a host")


def _unknown_variables(environment: Mapping[str, str]) -> list[str]:
    known = {f"GOQUEUE_{name.upper()}" for name in Settings.model_fields}
    return [
        f"{name}: there is no such setting"
        for name in sorted(environment)
        if name.startswith("GOQUEUE_") and name not in known
    ]


def _problem(item: Mapping[str, Any]) -> str:
    name = str(item["loc"][0]) if item["loc"] else "settings"
    return f"GOQUEUE_{name.upper()}: {item['msg'].removeprefix('Value error, ')}"


def _contradictions(settings: Settings) -> list[str]:
    problems = []
    if settings.lease_seconds < 3 * settings.heartbeat_seconds:
        problems.append(
            "GOQUEUE_LEASE_SECONDS: expected at least three heartbeats "
            f"({3 * settings.heartbeat_seconds:g}), got {settings.lease_seconds:g}"
        )
    if settings.leader_lease_seconds < 3 * settings.leader_check_seconds:
        problems.append(
            "GOQUEUE_LEADER_LEASE_SECONDS: expected at least three checks "
            f"({3 * settings.leader_check_seconds:g}), got {settings.leader_lease_seconds:g}"
        )
    if settings.runway_max < settings.runway_min:
        problems.append(f"GOQUEUE_RUNWAY_MAX: expected at least GOQUEUE_RUNWAY_MIN ({settings.runway_min})")
    if settings.max_backoff_seconds < settings.min_backoff_seconds:
        problems.append("GOQUEUE_MAX_BACKOFF_SECONDS: expected at least GOQUEUE_MIN_BACKOFF_SECONDS")
    if settings.liveness_seconds < 3 * settings.fetch_block_seconds:
        problems.append(
            "GOQUEUE_LIVENESS_SECONDS: expected at least three blocking fetches "
            f"({3 * settings.fetch_block_seconds:g}), got {settings.liveness_seconds:g}"
        )
    if settings.api_buffer_max_bytes < 2 * settings.batch_max_bytes:
        problems.append(
            "GOQUEUE_API_BUFFER_MAX_BYTES: expected at least twice GOQUEUE_BATCH_MAX_BYTES "
            f"({2 * settings.batch_max_bytes}), got {settings.api_buffer_max_bytes}"
        )
    if settings.cancel_grace_seconds <= settings.cancel_cooperation_seconds:
        problems.append("GOQUEUE_CANCEL_GRACE_SECONDS: expected more than GOQUEUE_CANCEL_COOPERATION_SECONDS")
    if settings.encrypt_payloads and settings.payload_keys is None:
        problems.append("GOQUEUE_ENCRYPT_PAYLOADS: expected GOQUEUE_PAYLOAD_KEYS with it")
    return problems + _problems_of_sign_in(settings) + _example_secrets(settings)


def _problems_of_sign_in(settings: Settings) -> list[str]:
    """What is wrong with the sign-in by OpenID Connect, whose settings stand or fall together."""
    if settings.oidc_issuer is None:
        given = [
            name for name in ("client_id", "client_secret", "roles") if getattr(settings, f"oidc_{name}")
        ]
        return [f"GOQUEUE_OIDC_{name.upper()}: expected GOQUEUE_OIDC_ISSUER as well" for name in given]
    problems = []
    if not settings.oidc_client_id:
        problems.append("GOQUEUE_OIDC_CLIENT_ID: expected one, because GOQUEUE_OIDC_ISSUER is set")
    if not settings.oidc_roles:
        problems.append("GOQUEUE_OIDC_ROLES: expected at least one rule: without any nobody could sign in")
    if not settings.needs_api_key:
        problems.append(
            "GOQUEUE_OIDC_ISSUER: expected GOQUEUE_API_KEYS_REQUIRED=true as well: without keys everybody "
            "who reaches this service is in"
        )
    for name in ("oidc_issuer", "oidc_public_url"):
        url = urlsplit(getattr(settings, name) or "https:")
        is_safe = url.scheme == "https" or settings.environment == "dev" or _is_this_machine(url.hostname)
        if not is_safe:
            problems.append(f"GOQUEUE_{name.upper()}: expected https://")
    return problems


def _is_this_machine(host: str | None) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def _example_secrets(settings: Settings) -> list[str]:
    if settings.environment == "dev":
        return []
    return [
        f"GOQUEUE_{name.upper()}: expected a secret of your own, got the one of .env.example, "
        "which only GOQUEUE_ENVIRONMENT=dev accepts"
        for name, value in settings
        if holds_example_secret(_as_text(value))
    ]


def _parts_of(value: SecretStr) -> list[str]:
    """The secrets of a setting: there may be two, while one changes."""
    return value.get_secret_value().split()


def _mask(value: Any) -> Any:
    """A value as it may be shown: of a URL, secret or not, neither who asks nor what is asked for."""
    if isinstance(value, Mapping):
        return {name: _mask(item) for name, item in value.items()}
    if isinstance(value, SecretStr):
        return masked_url(value.get_secret_value())
    if isinstance(value, tuple) and _are_rules(value):
        return rules_as_text(value)
    return masked_url(value) if isinstance(value, str) and "://" in value else value
