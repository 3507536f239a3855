"""The API over real servers, called in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from falcon import testing

from goqueue.api.app import create_app
from goqueue.config.settings import Settings
from goqueue.dashboard.site import DASHBOARD
from goqueue.db.database import Database
from goqueue.engine.runway.runway import Runway
from tests.support.dashboard.client import DashboardClient
from tests.support.jobs import noop_jobs

NOOP = {"queue": noop_jobs.noop.queue_name, "payload": {}}


@pytest.fixture
def client(settings: Settings, database: Database, runway: Runway) -> testing.TestClient:
    """A client of the API."""
    return testing.TestClient(create_app(settings, database=database, runway=runway))


@pytest.fixture
def dashboard(settings: Settings, database: Database, runway: Runway) -> DashboardClient:
    """A browser without scripts, on the dashboard."""
    app = create_app(settings, database=database, runway=runway, site=DASHBOARD)
    return DashboardClient(testing.TestClient(app))


@pytest.fixture
def rows(database: Database) -> Callable[[], int]:
    """How many jobs there are."""

    def count() -> int:
        with database.autocommit() as connection:
            return int(connection.exec_driver_sql("SELECT count(*) FROM jobs").scalar_one())

    return count


@pytest.fixture
def create(client: testing.TestClient) -> Callable[..., dict[str, Any]]:
    """Creates a no-op job through the API; members of the request may be given."""

    def create(**members: Any) -> dict[str, Any]:
        result = client.simulate_post("/jobs/create", json=NOOP | members)
        assert result.status_code == 201, result.text
        document: dict[str, Any] = result.json
        return document

    return create
