"""Dead letters: found in groups, tried with a canary, run again as one operation that is watched."""

from __future__ import annotations

from typing import Any

import httpx

from examples import api, job_in, wait_until

JOBS = 12


def main() -> None:
    """A fault that was repaired: its group runs again. One that was not: the canary stops the others."""
    with api() as client:
        repaired = group_of(client, fail("repaired", times=1))
        preview = retry(client, repaired, dry_run=True)
        print(f"a dry run would retry {preview['total']} jobs: {[job['id'] for job in preview['jobs']]}")
        operation = ended(client, retry(client, repaired, canary=3, rate=50, author="the example"))
        assert (operation["state"], operation["changed"]) == ("completed", preview["total"]), operation
        print(f"the group ran again: {operation['changed']} jobs, the first 3 of them as canaries")

        broken = group_of(client, fail("still broken", times=100))
        operation = ended(client, retry(client, broken, canary=3))
        assert (operation["state"], operation["done"]) == ("stopped", 3), operation
        print(f"the other group was stopped: {operation['reason']}")
        delete(client, broken)


def fail(what: str, times: int) -> dict[str, Any]:
    """Jobs of which each fails so many times, each with another number in its message."""
    payloads = [{"what": what, "number": number, "times": times} for number in range(JOBS)]
    return {"jobs": [{"queue": "examples", "type": "deliver", "payload": payload} for payload in payloads]}


def group_of(client: httpx.Client, batch: dict[str, Any]) -> dict[str, Any]:
    """Create the jobs, wait until all failed, and find the one group that they are in."""
    ids = client.post("/jobs/batch", json=batch).raise_for_status().json()["ids"]
    (fingerprint,) = {job_in(client, job_id, "failed")["fingerprint"] for job_id in ids}

    def look() -> Any:
        group = client.get(f"/failures/{fingerprint}").raise_for_status().json()
        return group if group["exception"] else None

    group: dict[str, Any] = wait_until("what its fingerprint stands for", look)
    assert group["count"] >= JOBS, group
    print(f"{group['count']} times {group['exception']}: {group['message']}, in {group['frame']}")
    return group


def retry(client: httpx.Client, group: dict[str, Any], **how: Any) -> dict[str, Any]:
    """Begin to run a group again, or only look."""
    answer: dict[str, Any] = (
        client.post(f"/failures/{group['fingerprint']}/retry", json=how).raise_for_status().json()
    )
    return answer


def ended(client: httpx.Client, operation: dict[str, Any]) -> dict[str, Any]:
    """The operation, as soon as it has ended."""
    path = f"/bulk-operations/{operation['id']}"

    def look() -> Any:
        document = client.get(path).raise_for_status().json()
        return document if document["finished_at"] else None

    document: dict[str, Any] = wait_until(f"{path} to end", look)
    return document


def delete(client: httpx.Client, group: dict[str, Any]) -> None:
    """Delete what is left of a group."""
    asked = {"action": "delete", "filter": {"fingerprint": group["fingerprint"]}}
    operation = ended(client, client.post("/bulk-operations", json=asked).raise_for_status().json())
    assert operation["state"] == "completed", operation
    assert client.get(f"/failures/{group['fingerprint']}").status_code == httpx.codes.NOT_FOUND
    print(f"{operation['changed']} jobs that are beyond repair were deleted")


if __name__ == "__main__":
    main()
