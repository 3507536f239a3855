"""The dashboard over real servers, called in this process, and the client of the API beside it."""

from __future__ import annotations

from tests.api import conftest as api

client = api.client
create = api.create
dashboard = api.dashboard
rows = api.rows
