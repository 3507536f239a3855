"""The six routes of the original service, field by field."""

from __future__ import annotations

from typing import Any

from falcon import testing

EMAIL = {"to": "a@example.com", "subject": "Hello", "body": "World"}


def test_a_job_is_created_and_read(client: testing.TestClient) -> None:
    """A create answers 201 with the whole job and where it is, and a read answers the same."""
    created = client.simulate_post("/jobs/create", json={"queue": "email", "payload": EMAIL})
    assert created.status_code == 201, created.text
    assert created.headers["location"] == f"/jobs/{created.json['id']}"
    found = client.simulate_get(created.headers["location"])
    assert found.status_code == 200
    assert found.json == created.json
