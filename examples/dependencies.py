"""Dependencies: a graph in one batch, a chain in one call, and what becomes of who waits for a failure."""

from __future__ import annotations

from typing import Any

import httpx

from examples import api, job_in


def main() -> None:
    """A diamond adds up, a chain runs in its order, and three policies decide about a parent that failed."""
    with api() as client:
        print("job", fans_in(client), "ran after both that it waited for, and read their results")
        print("jobs", *chain(client), "ran one after the other")
        for policy, status in {"fail": "failed", "cancel": "cancelled", "run": "completed"}.items():
            print("job", after_a_failure(client, policy, status), f"({policy}) is {status}")
        refuses(client)


def fans_in(client: httpx.Client) -> int:
    """Two texts are counted, and then added up; the id of the last job."""
    jobs = [
        counting("one two three") | {"ref": "first"},
        counting("four five") | {"ref": "second"},
        summing(depends_on=["first", "second"]),
    ]
    answer = client.post("/jobs/batch", json={"jobs": jobs}).raise_for_status().json()
    *parents, last = answer["ids"]
    assert job_in(client, last)["result"] == {"words": 5, "texts": 2}
    told = client.get(f"/jobs/{last}/dependencies").raise_for_status().json()
    assert [parent["id"] for parent in told["parents"]] == sorted(parents), told
    return int(last)


def chain(client: httpx.Client) -> list[int]:
    """Three jobs in one call; their ids."""
    then = [summing(), counting("and done")]
    first = client.post("/jobs/create", json=counting("six") | {"then": then}).raise_for_status().json()
    ids = [first["id"], *first["then"]]
    jobs = [job_in(client, job_id) for job_id in ids]
    assert jobs[1]["result"] == {"words": 1, "texts": 1}
    assert jobs[0]["finished_at"] <= jobs[1]["started_at"], jobs
    assert jobs[1]["finished_at"] <= jobs[2]["started_at"], jobs
    return ids


def after_a_failure(client: httpx.Client, policy: str, status: str) -> int:
    """A job that waits for one that fails; its id."""
    parent = client.post("/jobs/create", json=counting("")).raise_for_status().json()["id"]
    request = summing(depends_on=[parent], on_parent_failure=policy)
    child = client.post("/jobs/create", json=request).raise_for_status().json()["id"]
    job = job_in(client, child, status)
    assert job["reason"] == (None if policy == "run" else "parent_failed"), job
    return int(child)


def refuses(client: httpx.Client) -> None:
    """Jobs that wait for each other are a mistake."""
    jobs = [
        counting("a") | {"ref": "a", "depends_on": ["b"]},
        counting("b") | {"ref": "b", "depends_on": ["a"]},
    ]
    answer = client.post("/jobs/batch", json={"jobs": jobs})
    assert answer.status_code == 400, answer.text
    print("refused:", answer.json()["fields"])


def counting(text: str) -> dict[str, Any]:
    """A job that counts the words of a text."""
    return {"queue": "examples", "type": "count_words", "payload": {"text": text}}


def summing(**members: Any) -> dict[str, Any]:
    """A job that adds up what its parents counted."""
    return {"queue": "examples", "type": "sum_words", "payload": {}} | members


if __name__ == "__main__":
    main()
