"""Schedules: one of the code and one of the API; what comes, what was, a pause, and running one now."""

from __future__ import annotations

import httpx

from examples import api, job_in

NIGHTLY = {
    "cron": "30 2 * * *",
    "timezone": "Europe/Berlin",
    "queue": "reports",
    "payload": {"name": "stock"},
    "overlap": "skip",
    "catch_up": "once",
    "jitter_seconds": 60,
    "blackouts": [{"start": "00:00", "end": "04:00", "days": ["sun"]}],
    "blackout_policy": "after",
}


def main() -> None:
    """Show them."""
    with api() as client:
        declared = client.get("/schedules/weekday_report").raise_for_status().json()
        assert (declared["source"], declared["payload"]) == ("code", {"name": "sales"})
        print(f"declared beside its actor: {declared['name']}, next at {declared['next_at']}")
        client.put("/schedules/nightly", json=NIGHTLY).raise_for_status()
        show_what_comes(client)
        run_now(client)
        pause_and_resume(client)
        refuse(client)
        client.delete("/schedules/nightly").raise_for_status()


def show_what_comes(client: httpx.Client) -> None:
    """The next ten ticks; one of them is a Sunday's, which waits for the end of its blackout."""
    ticks = client.get("/schedules/nightly/preview", params={"n": 10}).raise_for_status().json()
    for tick in ticks:
        print(f"  {tick['local']}  {tick['outcome']}  {tick['fires_at']}  {tick['shift'] or ''}")
    assert len(ticks) == 10
    assert "fires_after_blackout" in {tick["outcome"] for tick in ticks}


def run_now(client: httpx.Client) -> None:
    """A job of the schedule, at once; it is part of the history."""
    job = client.post("/schedules/nightly/run").raise_for_status().json()
    done = job_in(client, job["id"])
    assert done["result"] == {"report": "stock"}
    (tick,) = client.get("/schedules/nightly/ticks").raise_for_status().json()
    assert (tick["kind"], tick["outcome"], tick["job_id"]) == ("manual", "fired", job["id"])
    print(f"ran now: job {job['id']} made {done['result']}")


def pause_and_resume(client: httpx.Client) -> None:
    """While it is paused it has no next tick."""
    why = {"reason": "the warehouse moves", "author": "ada"}
    paused = client.post("/schedules/nightly/pause", json=why).raise_for_status().json()
    assert (paused["paused_by"], paused["next_at"]) == ("ada", None)
    resumed = client.post("/schedules/nightly/resume").raise_for_status().json()
    assert resumed["next_at"] is not None
    print(f"paused by {paused['paused_by']} ({paused['pause_reason']}), and resumed")


def refuse(client: httpx.Client) -> None:
    """A line that never fires is refused."""
    answer = client.put("/schedules/never", json=NIGHTLY | {"cron": "0 0 31 2 *"})
    assert answer.status_code == 400
    print("refused:", answer.json()["fields"])


if __name__ == "__main__":
    main()
