"""The yardstick of `POST /jobs/create`: a Falcon endpoint that does one bare INSERT and nothing else."""

from __future__ import annotations

import os
import threading
from typing import Any

import falcon
import psycopg
from psycopg.types.json import Json

INSERT = "INSERT INTO bench_bare (queue, payload) VALUES (%s, %s) RETURNING id, created_at"
CREATE_TABLE = """
    CREATE TABLE IF NOT EXISTS bench_bare (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        queue text NOT NULL,
        payload json NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now())
"""


class BareJobs:
    """Parses the body, inserts a row, answers with its id. No validation, no pool, a connection a thread."""

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url
        self._thread = threading.local()

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Create a row."""
        body = request.media
        row = self._connection().execute(INSERT, (body["queue"], Json(body["payload"]))).fetchone()
        assert row is not None
        response.status = falcon.HTTP_201
        response.media = {"id": row[0], "queue": body["queue"], "created_at": row[1].isoformat()}

    def _connection(self) -> psycopg.Connection[Any]:
        if not hasattr(self._thread, "connection"):
            self._thread.connection = psycopg.connect(self._database_url, autocommit=True)
        connection: psycopg.Connection[Any] = self._thread.connection
        return connection


app = falcon.App()
app.add_route("/jobs/create", BareJobs(os.environ.get("BENCH_DATABASE_URL", "")))
