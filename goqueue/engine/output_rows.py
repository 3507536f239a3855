"""Rows of what attempts stream while they run: pieces of text, in their order, kept as long as their job."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection

from goqueue.contents.contents import of_job
from goqueue.db.statements import array, contents_of, fetch_all, fetch_one

__all__ = ["JobOutput", "OutputChunk", "OutputPiece", "Place", "output_behind", "write_output"]

#: Behind which (fence, chunk) a reader goes on.
Place = tuple[int, int]

# A piece may be written twice, where the answer to the first time was lost. A job that the cleaner deleted
# meanwhile gets no rows that nobody would delete.
_WRITE = """
    INSERT INTO job_output (job_id, fence, chunk, text)
    SELECT said.id, said.fence, piece.chunk, piece.text
    FROM json_to_recordset(%(outputs)s::json) AS said (id bigint, fence int, chunks json)
    CROSS JOIN LATERAL (SELECT FROM jobs WHERE jobs.id = said.id LIMIT 1) AS job
    CROSS JOIN LATERAL json_to_recordset(said.chunks) AS piece (chunk int, text text)
    ON CONFLICT DO NOTHING
"""

# What an attempt has said is written before its end is recorded, so in one snapshot a job that has ended has
# all of it. Two descents for each job and place.
_BEHIND = """
    SELECT wanted.number, job.status, job.finished_at IS NOT NULL, piece.fence, piece.chunk, piece.text
    FROM unnest(%(ids)s::bigint[], %(fences)s::int[], %(chunks)s::int[])
         WITH ORDINALITY AS wanted (id, fence, chunk, number)
    LEFT JOIN LATERAL (SELECT status, finished_at FROM jobs WHERE jobs.id = wanted.id LIMIT 1) AS job ON true
    LEFT JOIN LATERAL (
        SELECT fence, chunk, text FROM job_output
        WHERE job_id = wanted.id AND (fence, chunk) > (wanted.fence, wanted.chunk)
        ORDER BY job_id, fence, chunk LIMIT %(limit)s
    ) AS piece ON true
    ORDER BY wanted.number, piece.fence, piece.chunk
"""


class OutputPiece(NamedTuple):
    """A piece of what an attempt streams, numbered from 1; no text: what came behind it was not kept."""

    number: int
    text: str | None


class JobOutput(NamedTuple):
    """The pieces that an attempt has streamed since the last time.

    Attributes:
        encrypted: its job is encrypted in its rows, and so are they.
    """

    job_id: int
    fence: int
    chunks: Sequence[OutputPiece]
    encrypted: bool = False


class OutputChunk(NamedTuple):
    """One row of `job_output`."""

    fence: int
    chunk: int
    text: str | None


class Behind(NamedTuple):
    """The output of a job behind a place.

    Attributes:
        status: the job's; None: it is gone.
        has_ended: and nothing comes behind these chunks, if they are fewer than were asked for.
    """

    status: str | None
    has_ended: bool
    chunks: list[OutputChunk]


def write_output(connection: Connection, outputs: Iterable[JobOutput]) -> None:
    """Write what attempts have streamed."""
    records = [
        {
            "id": output.job_id,
            "fence": output.fence,
            "chunks": [
                {"chunk": chunk.number, "text": _written(connection, output, chunk)}
                for chunk in output.chunks
            ],
        }
        for output in outputs
    ]
    if records:
        connection.exec_driver_sql(_WRITE, {"outputs": orjson.dumps(records).decode()})


def _written(connection: Connection, output: JobOutput, chunk: OutputPiece) -> str | None:
    """A piece as it is written: that of an encrypted job is."""
    if chunk.text is None or not output.encrypted:
        return chunk.text
    return contents_of(connection).closed(chunk.text, of_job("output", output.job_id))


def output_behind(connection: Connection, places: Sequence[tuple[int, Place]], *, limit: int) -> list[Behind]:
    """Read what jobs have streamed behind these places, each (job, place), at most so many chunks of each."""
    parameters: dict[str, Any] = {
        "ids": array(job_id for job_id, _ in places),
        "fences": array(place[0] for _, place in places),
        "chunks": array(place[1] for _, place in places),
        "limit": limit,
    }
    found: list[Behind] = []
    contents = contents_of(connection)
    for number, status, has_ended, fence, chunk, text in fetch_all(connection, _BEHIND, parameters):
        if number > len(found):
            found.append(Behind(status, bool(has_ended) or status is None, []))
        if fence is not None:
            shown = contents.shown(text, of_job("output", places[number - 1][0]))
            found[-1].chunks.append(OutputChunk(fence, chunk, shown))
    return found


def exists(connection: Connection, job_id: int) -> bool:
    """Say whether there is such a job."""
    return fetch_one(connection, "SELECT FROM jobs WHERE id = %(id)s", {"id": job_id}) is not None
