"""Traces: a job, its retry and what its handler calls belong to the trace of the request that created it."""

from __future__ import annotations

import secrets

from examples import api, job_in


def main() -> None:
    """A `traceparent` at the create comes out again in the job, and in each of its attempts."""
    trace_id, span_id = secrets.token_hex(16), secrets.token_hex(8)
    request = {"queue": "examples", "type": "tell_trace", "payload": {"fail_times": 1}}
    with api() as client:
        headers = {"traceparent": f"00-{trace_id}-{span_id}-01"}
        created = client.post("/jobs/create", json=request, headers=headers).raise_for_status().json()
        print("job", created["id"], "belongs to the trace", created["trace_id"])
        assert created["trace_id"] == trace_id, created

        job = job_in(client, created["id"])
        print("its attempt", job["attempts"], "would call others with", job["result"])
        assert job["attempts"] == 2, job
        assert job["result"]["traceparent"].split("-")[1] == trace_id, job

        wrong = client.post("/jobs/create", json=request, headers={"traceparent": "what is this?"})
        print("a wrong traceparent is ignored:", wrong.status_code, wrong.json()["trace_id"])
        assert wrong.status_code == 201, wrong.text


if __name__ == "__main__":
    main()
