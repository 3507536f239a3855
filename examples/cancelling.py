"""Cancelling: a job that waits, one that cooperates, and one that has to be interrupted."""

from __future__ import annotations

import httpx

from examples import api, job_in, wait_until


def main() -> None:
    """Each is cancelled, and its document says when it was asked, when its worker knew, when it stopped."""
    with api() as client:
        waiting = create(client, "slow", {"seconds": 1}, delay_seconds=3600)
        cancelled = client.post(f"/jobs/{waiting}/cancel").raise_for_status().json()
        assert cancelled["status"] == "cancelled", cancelled
        print(f"job {waiting} waited: it is cancelled, and never starts")
        for job_type, how in (("tidy", "noticed and tidied up"), ("slow", "was interrupted")):
            print(f"job {stop(client, job_type)} of type {job_type} {how}")


def stop(client: httpx.Client, job_type: str) -> int:
    """Start a job that takes an hour, and cancel it; its id."""
    job_id = create(client, job_type, {"seconds": 3600})
    job_in(client, job_id, "running")
    asked = client.post(f"/jobs/{job_id}/cancel").raise_for_status().json()
    assert asked["cancel_requested_at"], asked
    job = job_in(client, job_id, "cancelled")
    times = [job["cancel_requested_at"], job["cancel_acknowledged_at"], job["finished_at"]]
    assert times == sorted(times), times
    for name, time in zip(("requested", "acknowledged", "stopped"), times, strict=True):
        print(f"  {name:12} {time}")
    attempts = wait_until("its attempt", lambda: client.get(f"/jobs/{job_id}/attempts").json())
    assert [attempt["outcome"] for attempt in attempts] == ["cancelled"], attempts
    return job_id


def create(client: httpx.Client, job_type: str, payload: dict[str, float], **members: float) -> int:
    """Create a job; its id."""
    job = {"queue": "examples", "type": job_type, "payload": payload} | members
    job_id: int = client.post("/jobs/create", json=job).raise_for_status().json()["id"]
    return job_id


if __name__ == "__main__":
    main()
