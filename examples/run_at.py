"""Run-at: jobs that start at their time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from examples import api, job_in


def main() -> None:
    """One job says when, one how long from now; both start then, and not before."""
    at = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    with api() as client:
        for when in ({"available_at": at}, {"delay_seconds": 0.5}):
            request = {"queue": "letters", "payload": {"to": "ada"}} | when
            job = client.post("/jobs/create", json=request).raise_for_status().json()
            assert job["status"] == "queued", job
            done = job_in(client, job["id"])
            due = datetime.fromisoformat(done["available_at"])
            late = (datetime.fromisoformat(done["started_at"]) - due).total_seconds()
            assert late >= 0, done
            print("job", job["id"], when, f"started {late * 1000:.0f} ms after its time")


if __name__ == "__main__":
    main()
