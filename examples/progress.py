"""Progress and logs: a job is watched while it runs."""

from __future__ import annotations

import time
from typing import Any

from examples import api, job_in

STEPS = 8
POLL_SECONDS = 0.2


def main() -> None:
    """What the handler says is read while it runs, and is complete when it has ended."""
    request = {"queue": "examples", "type": "walk", "payload": {"steps": STEPS}}
    with api() as client:
        job_id = client.post("/jobs/create", json=request).raise_for_status().json()["id"]
        lines: list[dict[str, Any]] = []
        while True:
            progress = client.get(f"/jobs/{job_id}/progress").raise_for_status().json()
            seen = {"after": lines[-1]["line"] if lines else 0}
            new = client.get(f"/jobs/{job_id}/logs", params=seen).raise_for_status().json()
            for line in new:
                print(f"{progress['progress'] or 0:4.0%}  {line['logged_at']}  {line['text']}")
            lines += new
            if progress["status"] == "completed" and not new:
                break
            time.sleep(POLL_SECONDS)
        job_in(client, job_id)
        assert [line["text"] for line in lines] == [f"step {number}" for number in range(1, STEPS + 1)], lines
        progress = client.get(f"/jobs/{job_id}/progress").json()
        assert (progress["progress"], progress["message"]) == (1.0, f"{STEPS} of {STEPS}"), progress
        print("job", job_id, "is at", f"{progress['progress']:.0%}:", progress["message"])


if __name__ == "__main__":
    main()
