"""Events: a job is followed by what changes, its output is read along, and its end is waited for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from examples import api

WORDS = ["Once", "upon", "a", "time"]


class Told(NamedTuple):
    """One Server-Sent Event."""

    kind: str
    id: str
    data: dict[str, Any]


def main() -> None:
    """Whoever listens hears of each change of the job, once and in order."""
    with api() as client, client.stream("GET", "/events", params={"event": "job.*"}) as stream:
        lines = stream.iter_lines()
        # The first comment says that from here on nothing is missed.
        while next(lines) != ": listening":
            pass
        request = {"queue": "examples", "type": "recite", "payload": {"words": WORDS}}
        job_id = client.post("/jobs/create", json=request).raise_for_status().json()["id"]

        with client.stream("GET", f"/jobs/{job_id}/stream") as output:
            text = "".join(
                piece.data["text"] for piece in events_of(output.iter_lines()) if piece.kind == "chunk"
            )
        print(f"job {job_id} recited: {text}")
        assert text == " ".join(WORDS) + " ", text

        job = client.get(f"/jobs/{job_id}/wait", params={"timeout": 30}).raise_for_status().json()
        assert job["status"] == "completed", job

        kinds: list[str] = []
        for event in events_of(lines):
            if event.data["job_id"] == job_id:
                print(event.data["at"], event.kind)
                kinds.append(event.kind)
            if kinds[-1:] == ["job.completed"]:
                break
        assert (kinds[0], kinds[-1]) == ("job.created", "job.completed"), kinds
    missed_nothing(job_id, event.id)


def missed_nothing(job_id: int, place: str) -> None:
    """A client that comes back with the id of its last event hears what came behind it, and nothing else."""
    with api() as client, client.stream("GET", "/events", headers={"Last-Event-ID": place}) as stream:
        lines = stream.iter_lines()
        while next(lines) != ": listening":
            pass
        client.post("/jobs/create", json={"queue": "examples", "type": "recite", "payload": {"words": []}})
        first = next(events_of(lines))
        assert first.data["job_id"] != job_id, first
        print("after the restart of a client:", first.kind, "of job", first.data["job_id"])


def events_of(lines: Iterator[str]) -> Iterator[Told]:
    """Read the events of a stream, as every browser does by itself."""
    fields: dict[str, str] = {}
    for line in lines:
        if line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value
        elif not line:
            if "data" in fields:
                yield Told(fields.get("event", ""), fields.get("id", ""), json.loads(fields["data"]))
            fields = {}


if __name__ == "__main__":
    main()
