"""The reporter: writes what handlers say about their jobs, progress and logs, behind them and in batches.

No handler waits for PostgreSQL, and a thousand calls cost a handful of commits: four times a second, of what
is streamed twenty-five times, and before the outcome of an attempt is recorded, what has piled up is written
in a statement for each kind. An outage of PostgreSQL holds it; what is pending is bounded.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

import structlog

from goqueue.config.settings import Settings
from goqueue.contents.redaction import scrubbed
from goqueue.db.database import Database
from goqueue.engine import output_rows as output_store
from goqueue.engine import report_rows as report_store
from goqueue.engine.output_rows import JobOutput
from goqueue.engine.report_rows import Line, Progress, Report
from goqueue.errors import DatabaseUnavailableError
from goqueue.middleware.current_job import CurrentJob
from goqueue.middleware.lifecycle import storable
from goqueue.worker.background_thread import BackgroundThread
from goqueue.worker.recording.pending_output import PendingOutput

log = structlog.get_logger(__name__)

#: How long what a handler said waits for more to be written with it.
WRITE_SECONDS = 0.25

#: The same of what a handler streams: somebody reads along.
STREAM_SECONDS = 0.04

#: The pause between tries at a shutdown, while PostgreSQL is away.
RETRY_SECONDS = 0.1

#: The most that waits to be written, over all attempts: in an outage, lines beyond it are cut.
PENDING_MAX_BYTES = 16 * 1024 * 1024

#: What a line costs beside its text.
LINE_BYTES = 64

#: Kept of the text beside a progress.
TEXT_MAX_CHARACTERS = 1_000


@dataclass(slots=True)
class _AttemptReport:
    """What an attempt has said: counts of all of it, and what is not written yet."""

    job_id: int
    fence: int
    encrypted: bool
    progress: tuple[float, str | None, float] | None = None
    lines: list[tuple[int, str, float]] = field(default_factory=list)
    last_line: int = 0
    kept_bytes: int = 0
    cut_lines: int = 0
    cut_bytes: int = 0
    #: More was cut than the written notice says.
    notice_is_old: bool = False
    output: PendingOutput | None = None


class Reporter(BackgroundThread):
    """One thread that writes the progress and the logs of this process. Its other methods are thread-safe.

    Locks: what is said is kept under `_lock`, for microseconds, so that no handler waits; `_writing` is held
    while PostgreSQL is asked, so that a `flush` ends after everything said before it was written.
    """

    def __init__(self, settings: Settings, database: Database) -> None:
        super().__init__("reporter")
        self._log_max_bytes = settings.attempt_log_max_bytes
        self._output_max_bytes = settings.attempt_output_max_bytes
        self._database = database
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._pending: dict[tuple[int, int], _AttemptReport] = {}
        self._pending_bytes = 0
        self._something = threading.Event()
        self._streamed = threading.Event()
        self._stopping = threading.Event()
        self._giving_up = threading.Event()

    def stop(self, timeout_seconds: float) -> bool:
        """Write what is pending and end; False when PostgreSQL did not take it in time."""
        self._stopping.set()
        self._streamed.set()
        self._something.set()
        self._thread.join(timeout_seconds)
        self._giving_up.set()
        return not self._thread.is_alive()

    def progress(self, current: CurrentJob, fraction: float, text: str | None) -> None:
        """Note how far a job has come; the latest wins."""
        # Reading what a handler gives runs its code: never under the lock.
        kept = None if text is None else storable(str.__str__(str(text))[:TEXT_MAX_CHARACTERS])
        if kept is not None and current.claimed.hidden:
            kept = scrubbed(kept, current.claimed.hidden)
        number = float(fraction)
        with self._lock:
            report = self._report_of(current)
            report.progress = (number, kept, time.monotonic())
        self._something.set()

    def log(self, current: CurrentJob, text: str) -> None:
        """Note a line of a job's log; what does not fit any more is counted."""
        # One character is a byte at least: no more is looked at than may be kept.
        text = str.__str__(str(text))
        if current.claimed.hidden:
            text = scrubbed(text, current.claimed.hidden)
        encoded = storable(text[: self._log_max_bytes + 1]).encode()
        beyond = max(0, len(text) - self._log_max_bytes - 1)
        with self._lock:
            self._add_line(self._report_of(current), encoded, beyond)
        self._something.set()

    def stream(self, current: CurrentJob, text: str) -> None:
        """Note a piece of what a job streams; what does not fit any more is dropped, and that is said."""
        text = str.__str__(str(text))
        if current.claimed.hidden:
            text = scrubbed(text, current.claimed.hidden)
        encoded = storable(text[: self._output_max_bytes + 1]).encode()
        with self._lock:
            report = self._report_of(current)
            if report.output is None:
                report.output = PendingOutput(self._output_max_bytes)
            has_room = self._pending_bytes < PENDING_MAX_BYTES
            self._pending_bytes += report.output.add(encoded, has_room=has_room)
        self._streamed.set()
        self._something.set()

    def flush(self) -> bool:
        """Write what was said until now; False: PostgreSQL is away, and it stays pending. Never raises."""
        with self._writing:
            with self._lock:
                reports = list(self._pending.values())
                self._pending.clear()
                self._pending_bytes = 0
                taken = [self._take(report) for report in reports]
                outputs = [_take_output(report) for report in reports]
            try:
                self._write(taken, [output for output in outputs if output.chunks])
            except DatabaseUnavailableError as error:
                log.warning("reports_postponed", attempts=len(taken), error=str(error))
                self._put_back(reports, taken, outputs)
                return False
            except Exception:
                # Not worth an outcome: the recorder calls this before it writes one.
                log.exception("reports_refused", attempts=len(taken))
        return True

    def _run(self) -> None:
        while not self._giving_up.is_set():
            self._something.wait()
            if self._streamed.wait(WRITE_SECONDS):
                self._stopping.wait(STREAM_SECONDS)
            stopping = self._stopping.is_set()
            self._something.clear()
            self._streamed.clear()
            written = self.flush()
            if stopping and written:
                return
            if not written:
                self._giving_up.wait(RETRY_SECONDS)

    def _report_of(self, current: CurrentJob) -> _AttemptReport:
        report: _AttemptReport | None = current.report
        if report is None:
            report = current.report = _AttemptReport(current.id, current.fence, current.claimed.encrypted)
        self._pending[report.job_id, report.fence] = report
        return report

    def _add_line(self, report: _AttemptReport, encoded: bytes, beyond: int) -> None:
        """Keep a line, or what fits of it; once something was cut, all that follows is."""
        size = len(encoded) + beyond
        room = self._log_max_bytes - report.kept_bytes - 1
        is_full = report.cut_lines or room < 0 or self._pending_bytes >= PENDING_MAX_BYTES
        if not is_full:
            text = encoded[:room].decode("utf-8", "ignore")
            kept = len(text.encode())
            report.last_line += 1
            report.lines.append((report.last_line, text, time.monotonic()))
            report.kept_bytes += kept + 1
            self._pending_bytes += kept + LINE_BYTES
            size -= kept
        if is_full or size:
            report.cut_lines += 1
            report.cut_bytes += size
            report.notice_is_old = True

    def _take(self, report: _AttemptReport) -> Report:
        """What is not written yet of an attempt, as the store takes it."""
        now = time.monotonic()
        lines = [Line(number, text, now - said_at) for number, text, said_at in report.lines]
        if report.notice_is_old:
            notice = (
                f"… {report.cut_bytes} bytes in {report.cut_lines} lines were cut: "
                f"at most {self._log_max_bytes} bytes are kept of the log of an attempt"
            )
            lines.append(Line(report.last_line + 1, notice, 0.0))
        progress = None
        if report.progress is not None:
            fraction, text, said_at = report.progress
            progress = Progress(fraction, text, now - said_at)
        taken = Report(report.job_id, report.fence, progress, lines, report.encrypted)
        report.progress, report.lines, report.notice_is_old = None, [], False
        return taken

    def _write(self, taken: list[Report], outputs: list[JobOutput]) -> None:
        progressed = [report for report in taken if report.progress is not None]
        logged = [report for report in taken if report.lines]
        if progressed or logged or outputs:
            with self._database.autocommit() as connection:
                output_store.write_output(connection, outputs)
                report_store.write_progress(connection, progressed)
                report_store.write_lines(connection, logged)

    def _put_back(self, reports: list[_AttemptReport], taken: list[Report], outputs: list[JobOutput]) -> None:
        """An outage: everything waits again, before what was said meanwhile."""
        now = time.monotonic()
        with self._lock:
            for report, unwritten, output in zip(reports, taken, outputs, strict=True):
                if report.output is not None:
                    self._pending_bytes += report.output.put_back(output.chunks)
                if report.progress is None and unwritten.progress is not None:
                    fraction, text, age = unwritten.progress
                    report.progress = (fraction, text, now - age)
                lines = [(n, text, now - age) for n, text, age in unwritten.lines if n <= report.last_line]
                report.notice_is_old |= len(lines) < len(unwritten.lines)
                report.lines = lines + report.lines
                self._pending[report.job_id, report.fence] = report
                self._pending_bytes += sum(len(line[1].encode()) + LINE_BYTES for line in lines)
        self._something.set()


def _take_output(report: _AttemptReport) -> JobOutput:
    """What is not written yet of what an attempt streams."""
    chunks = [] if report.output is None else report.output.take()
    return JobOutput(report.job_id, report.fence, chunks, report.encrypted)
