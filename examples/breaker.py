"""A circuit breaker stops a job type whose partner is down, and lets it go on when a probe completes.

python -m examples.breaker
"""

from __future__ import annotations

from typing import Any

import httpx

from examples import api, job_in, wait_until

TYPE, QUEUE = "call_partner", "partner"
BREAKER = {
    "failure_rate": 0.5,
    "minimum": 5,
    "window_seconds": 60,
    "cooldown_seconds": 1,
    "probes": 1,
}


def main() -> None:
    """Fail until the breaker opens; then a job waits, unspent, and is the probe that closes it."""
    with api() as client:
        client.put(f"/types/{TYPE}", json={"breaker": BREAKER}).raise_for_status()
        client.post(f"/types/{TYPE}/breaker/close").raise_for_status()

        breaker = wait_until("the breaker to open", lambda: fail(client))
        print("open:", breaker["reason"])

        job_id = create(client, answers=True)
        waiting = client.get(f"/jobs/{job_id}").json()
        print(f"job {job_id} is {waiting['status']}, and has spent {waiting['attempts']} attempts")

        job = job_in(client, job_id, timeout_seconds=60)
        assert job["attempts"] == 1
        assert job["started_at"] >= breaker["changed_at"], "nothing starts while it is open"
        closed = wait_until("the breaker to close", lambda: in_state(client, "closed"))
        print("closed:", closed["reason"])

        client.put(f"/types/{TYPE}", json={"breaker": None}).raise_for_status()


def fail(client: httpx.Client) -> dict[str, Any] | None:
    """One more call that fails; the breaker, if it is open by now."""
    create(client, answers=False)
    return in_state(client, "open")


def in_state(client: httpx.Client, state: str) -> dict[str, Any] | None:
    """The breaker, if it stands there."""
    breaker: dict[str, Any] = client.get(f"/types/{TYPE}").raise_for_status().json()["breaker"]
    return breaker if breaker["state"] == state else None


def create(client: httpx.Client, *, answers: bool) -> int:
    """Create a call; its id."""
    answer = client.post("/jobs/create", json={"queue": QUEUE, "type": TYPE, "payload": {"answers": answers}})
    return int(answer.raise_for_status().json()["id"])


if __name__ == "__main__":
    main()
