"""Reports of remote workers on attempts that run: progress, and lines of a log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import orjson

from goqueue.config.settings import Settings
from goqueue.contents.contents import of_payload
from goqueue.contents.redaction import hidden_values, scrubbed
from goqueue.db.database import Connection, Database
from goqueue.engine import report_rows as report_store
from goqueue.engine.report_rows import Line, Progress, Report
from goqueue.engine.transitions.record import still_running
from goqueue.errors import JobNotFoundError, LeaseLostError
from goqueue.middleware.lifecycle import storable
from goqueue.remote.lease_tokens import HeldJob
from goqueue.remote.remote_job_rows import contents_of, earlier_end

__all__ = ["AttemptReports", "LoggedLines", "lost"]


class LoggedLines(NamedTuple):
    """The numbers of lines that were kept of a log, and of those that were cut, in part or as a whole."""

    kept: int
    cut: int


class AttemptReports:
    """Writes progress and logs of attempts that are held."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._database = database
        self._log_max_bytes = settings.attempt_log_max_bytes

    def progress(self, held: HeldJob, fraction: float, text: str | None) -> None:
        """Note how far a job has come; the latest wins.

        Raises:
            LeaseLostError: the job is not held any more.
            JobNotFoundError: it was deleted.
            DatabaseUnavailableError: PostgreSQL does not answer.
        """
        kept = None if text is None else storable(text)
        with self._database.autocommit() as connection:
            if held.key not in still_running(connection, [held.key]):
                raise lost(connection, held)
            if kept is not None:
                kept = scrubbed(kept, self._hidden(connection, held))
            said = Report(held.id, held.fence, Progress(fraction, kept, 0.0), (), held.encrypted)
            report_store.write_progress(connection, [said])

    def log(self, held: HeldJob, lines: Sequence[str]) -> LoggedLines:
        """Add lines to the log of an attempt, as far as there is room in it. Raises as `progress`."""
        with self._database.transaction() as connection:
            if held.key not in still_running(connection, [held.key]):
                raise lost(connection, held)
            hidden = self._hidden(connection, held)
            lines = [scrubbed(line, hidden) for line in lines] if hidden else lines
            last, size = report_store.lock_log(connection, held.id, held.fence)
            kept, cut = self._that_fit(lines, last, self._log_max_bytes - size)
            report_store.write_lines(
                connection, [Report(held.id, held.fence, None, kept, held.encrypted)] if kept else []
            )
        return LoggedLines(len(lines) - cut, cut)

    def _hidden(self, connection: Connection, held: HeldJob) -> tuple[str, ...]:
        """The values of redacted fields of its payload, of which nothing that is kept may tell."""
        contents = self._database.contents
        names = contents.redacted.get(held.type)
        found = contents_of(connection, held.key) if names else None
        if names is None or found is None:
            return ()
        return hidden_values(orjson.loads(contents.opened(found.payload, of_payload(held.type))), names)

    def _that_fit(self, lines: Sequence[str], last: int, room: int) -> tuple[list[Line], int]:
        """The lines for which there is room, with a notice behind them where that ended with one of them."""
        kept: list[Line] = []
        was_full = room <= 0
        for place, line in enumerate(lines):
            encoded = storable(line).encode()
            if room > 0:
                text = encoded[: max(0, room - 1)].decode("utf-8", "ignore")
                kept.append(Line(last + len(kept) + 1, text, 0.0))
            room -= len(encoded) + 1
            if room < 0:
                if not was_full:
                    notice = f"… at most {self._log_max_bytes} bytes are kept of the log of an attempt"
                    kept.append(Line(last + len(kept) + 1, notice, 0.0))
                return kept, len(lines) - place
        return kept, 0


def lost(connection: Connection, held: HeldJob) -> LeaseLostError | JobNotFoundError:
    """Return the error of who speaks of a job that it does not hold any more."""
    found = earlier_end(connection, held.key)
    return JobNotFoundError(held.id) if found is None else LeaseLostError(held.id, found.status)
