"""One database for all tests of a module, emptied after each: for the many small tests of the store.

A module uses it by naming the fixtures: `settings = module_settings` and `database = emptied_database`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.dev.embedded import EmbeddedPostgres, EmbeddedValkey
from tests.support.database.places import misplaced

#: What Falcon's test client calls the service.
TESTED_HOST = "falconframework.org"

_numbers = itertools.count(1)


@contextmanager
def own_settings(
    postgres: EmbeddedPostgres, valkey: EmbeddedValkey, name: str, **changes: Any
) -> Iterator[Settings]:
    """Make a migrated database and settings for it under this name; the database is dropped at the end."""
    postgres.create_database(name, template="goqueue_template")
    own = {"database_url": postgres.url_for(name), "redis_url": valkey.url, "namespace": name}
    yield Settings(**own | changes)
    postgres.drop_database(name)


@pytest.fixture(scope="module")
def module_settings(postgres: EmbeddedPostgres, valkey: EmbeddedValkey) -> Iterator[Settings]:
    """Settings of a database that the tests of one module share."""
    with own_settings(postgres, valkey, f"module_{next(_numbers)}", allowed_hosts=(TESTED_HOST,)) as settings:
        yield settings


@pytest.fixture
def emptied_database(settings: Settings) -> Iterator[Database]:
    """Connections to the shared database; every row that the test made is deleted after it.

    Whatever the test did with its jobs, their places have to be right.
    """
    database = Database(settings)
    yield database
    with database.autocommit() as connection:
        assert misplaced(connection) == {}
        tables = (
            "jobs",
            "job_tags",
            "dependencies",
            "unique_keys",
            "job_versions",
            "reencryptions",
            "attempts",
            "workers",
            "queues",
            "idempotency_keys",
            "schedules",
            "schedule_ticks",
            "queue_keys",
            "rate_grants",
            "rate_buckets",
            "types",
            "declared_types",
            "type_outcomes",
            "failure_kinds",
            "bulk_operations",
            "bulk_canaries",
            "rollups",
            "rollup_progress",
            "kept_counts",
            "payload_indexes",
            "dashboard_sessions",
            "api_keys",
            "service_secrets",
            "leadership",
            "events",
            "job_output",
            "event_subscriptions",
            "namespaces",
            "create_tokens",
            "running_quota",
            "webhook_attempts",
            "webhook_deliveries",
            "webhook_subscriptions",
        )
        # One statement for all: there are thousands of tests.
        connection.exec_driver_sql("; ".join(f"DELETE FROM {table}" for table in tables))
    database.close()
