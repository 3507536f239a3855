"""One database for all tests of a module, emptied after each: for the many small tests of the store.

A module uses it by naming the fixtures: `settings = module_settings` and `database = emptied_database`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.dev.embedded import EmbeddedPostgres, EmbeddedValkey

#: What Falcon's test client calls the service.
TESTED_HOST = "falconframework.org"

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def module_settings(postgres: EmbeddedPostgres, valkey: EmbeddedValkey) -> Iterator[Settings]:
    """Settings of a database that the tests of one module share."""
    name = f"module_{next(_numbers)}"
    postgres.create_database(name, template="goqueue_template")
    yield Settings(
        database_url=SecretStr(postgres.url_for(name)),
        redis_url=SecretStr(valkey.url),
        namespace=name,
        allowed_hosts=(TESTED_HOST,),
    )
    postgres.drop_database(name)


@pytest.fixture
def emptied_database(settings: Settings) -> Iterator[Database]:
    """Connections to the shared database; every row that the test made is deleted after it."""
    database = Database(settings)
    yield database
    with database.autocommit() as connection:
        for table in (
            "jobs",
            "job_tags",
            "dependencies",
            "unique_keys",
            "job_versions",
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
            "type_outcomes",
            "failure_kinds",
            "bulk_operations",
            "bulk_canaries",
            "rollups",
            "rollup_progress",
            "dashboard_sessions",
            "service_secrets",
            "leadership",
        ):
            connection.exec_driver_sql(f"DELETE FROM {table}")
    database.close()
