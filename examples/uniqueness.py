"""Unique jobs: the second create of a kind answers with the first job."""

from __future__ import annotations

from typing import Any

import httpx

from examples import api, job_in

WAITS = {"queue": "letters", "delay_seconds": 600}


def main() -> None:
    """Reject, replace the payload, debounce, collect, and a batch."""
    with api() as client:
        rejects(client)
        replaces(client)
        debounces(client)
        collects(client)
        batch(client)


def rejects(client: httpx.Client) -> None:
    """While a letter to somebody waits, there is no second one; then there may be."""
    unique = {"fields": ["to"]}
    status, first = create(client, WAITS | {"payload": {"to": "ada"}, "unique": unique})
    assert (status, "deduplicated" in first) == (201, False), first
    status, again = create(client, WAITS | {"payload": {"to": "ada"}, "unique": unique})
    assert (status, again["id"], again["deduplicated"]) == (200, first["id"], True), again
    print("a second letter to ada is job", again["id"], "again: 200, deduplicated")
    client.post(f"/jobs/{first['id']}/cancel").raise_for_status()
    status, third = create(client, {"queue": "letters", "payload": {"to": "ada"}, "unique": unique})
    assert status == 201, third
    job_in(client, third["id"])
    print("the first one was cancelled; job", third["id"], "was created and ran")
    status, fourth = create(client, WAITS | {"payload": {"to": "ada"}, "unique": unique})
    refused = client.post(f"/jobs/{first['id']}/retry")
    assert (status, refused.status_code) == (201, 409), refused.text
    print("and running the cancelled one again is refused now:", refused.json()["detail"])
    client.post(f"/jobs/{fourth['id']}/cancel").raise_for_status()


def replaces(client: httpx.Client) -> None:
    """A waiting job gets the payload of the newest create."""
    unique = {"key": "letter-of-the-day", "mode": "replace_payload"}
    _, first = create(client, WAITS | {"payload": {"to": "ada"}, "unique": unique})
    _, again = create(client, WAITS | {"payload": {"to": "grace"}, "unique": unique})
    assert (again["id"], again["payload"]) == (first["id"], {"to": "grace"}), again
    print("job", first["id"], "goes to grace now")
    client.post(f"/jobs/{first['id']}/cancel").raise_for_status()


def debounces(client: httpx.Client) -> None:
    """Each create pushes the start out, up to a maximum."""
    unique = {"key": "when-all-is-quiet", "mode": "debounce", "debounce_max_seconds": 1}
    job = {"queue": "letters", "payload": {"to": "ada"}, "unique": unique}
    _, first = create(client, job | {"delay_seconds": 0.5})
    _, again = create(client, job | {"delay_seconds": 60})
    assert again["id"] == first["id"], again
    assert again["available_at"] > first["available_at"], again
    done = job_in(client, first["id"])
    print("job", done["id"], "was pushed out from", first["available_at"], "to", again["available_at"])


def collects(client: httpx.Client) -> None:
    """The third letter fills the digest, which starts with all three."""
    unique = {"key": "letters-of-ada", "mode": "collect", "collect_seconds": 600, "collect_max": 3}
    digest = {"queue": "digests", "unique": unique}
    answers = [create(client, digest | {"payload": {"to": f"ada {number}"}})[1] for number in range(3)]
    assert [answer.get("collected", False) for answer in answers] == [False, True, True], answers
    done = job_in(client, answers[0]["id"])
    assert done["result"] == {"written_to": ["ada 0", "ada 1", "ada 2"]}, done
    print("job", done["id"], "wrote a digest of", len(done["result"]["written_to"]), "letters")


def batch(client: httpx.Client) -> None:
    """A batch answers in order, with the ids of the jobs that are there."""
    job = {"queue": "letters", "payload": {"to": "ada"}}
    jobs = [job | {"unique": {"key": key}} for key in ("one", "two", "one")]
    answer = client.post("/jobs/batch", json={"jobs": jobs}).raise_for_status().json()
    assert answer["ids"][0] == answer["ids"][2] != answer["ids"][1], answer
    assert answer["deduplicated"] == 1, answer
    print("a batch of three made", answer)


def create(client: httpx.Client, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Create a job; the status and the document of the answer."""
    answer = client.post("/jobs/create", json=request).raise_for_status()
    return answer.status_code, answer.json()


if __name__ == "__main__":
    main()
