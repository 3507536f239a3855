"""Edits: a job that waits is changed, one that failed runs again changed, and what they were is kept."""

from __future__ import annotations

import httpx

from examples import api, job_in


def main() -> None:
    """Edit a job, read its versions, run a failed one again with another payload."""
    with api() as client:
        edits(client)
        retries(client)


def edits(client: httpx.Client) -> None:
    """A letter that waits for later goes to somebody else, at once."""
    request = {"queue": "letters", "payload": {"to": "ada"}, "delay_seconds": 600}
    job = client.post("/jobs/create", json=request).raise_for_status().json()
    edit = {"payload": {"to": "grace"}, "author": "the example"}
    client.patch(f"/jobs/{job['id']}", json=edit).raise_for_status()
    client.patch(f"/jobs/{job['id']}", json={"available_at": job["created_at"]}).raise_for_status()
    done = job_in(client, job["id"])
    assert done["result"] == {"to": "grace"}, done
    versions = client.get(f"/jobs/{job['id']}/versions").raise_for_status().json()
    assert [version["version"] for version in versions] == [1, 2, 3], versions
    for version in versions:
        print("job", job["id"], "version", version["version"], "by", version["author"], version["changes"])
    refused = client.patch(f"/jobs/{job['id']}", json={"priority": 1})
    assert refused.status_code == 409, refused.text
    print("refused:", refused.json()["detail"])


def retries(client: httpx.Client) -> None:
    """A job that failed for its payload succeeds with another."""
    request = {
        "queue": "examples",
        "type": "flaky",
        "payload": {"fail_times": 100},
        "max_retries": 0,
    }
    job = client.post("/jobs/create", json=request).raise_for_status().json()
    failed = job_in(client, job["id"], "failed")
    wrong = client.post(f"/jobs/{job['id']}/retry", json={"payload": {"fail_times": "none"}})
    assert wrong.status_code == 400, wrong.text
    print(
        "job",
        job["id"],
        "failed:",
        failed["error"],
        "- and an edit that does not fit:",
        wrong.json()["fields"],
    )
    client.post(f"/jobs/{job['id']}/retry", json={"payload": {"fail_times": 0}}).raise_for_status()
    done = job_in(client, job["id"])
    print("job", job["id"], "ran again with another payload:", done["result"])


if __name__ == "__main__":
    main()
