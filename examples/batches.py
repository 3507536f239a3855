"""A batch type: jobs that are created one by one run by one call of their handler, and end each by itself.

python -m examples.batches
"""

from __future__ import annotations

from examples import api, job_in

QUEUE = "bulk_inserts"


def main() -> None:
    """Ten jobs run together; the one that fails is retried, without the others."""
    with api() as client:
        described = client.get("/types/insert_rows").raise_for_status().json()["batch"]
        print("batches of up to", described["size"], "jobs, which wait", described["wait_ms"], "ms")
        jobs = [
            {"queue": QUEUE, "type": "insert_rows", "payload": {"row": n, "fail_times": int(n == 3)}}
            for n in range(10)
        ]
        ids = client.post("/jobs/batch", json={"jobs": jobs}).raise_for_status().json()["ids"]
        ended = [job_in(client, job_id) for job_id in ids]
    for job in ended:
        print("job", job["id"], "attempt", job["attempts"], "in a batch of", job["result"]["batch"])
    assert [job["attempts"] for job in ended] == [2 if n == 3 else 1 for n in range(10)], ended
    assert max(job["result"]["batch"] for job in ended) > 1, ended


if __name__ == "__main__":
    main()
