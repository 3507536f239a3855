"""One log pipeline for our own records, Dramatiq's, gunicorn's and everybody else's."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

import structlog

from goqueue.config.redaction import protect, redact, redact_values
from goqueue.errors import Translated
from goqueue.observability.confidence import withhold_contents
from goqueue.observability.exception_reader import ExceptionReader
from goqueue.observability.job_context import add_job_context, known_error
from goqueue.observability.printable import printable
from goqueue.observability.tracing.context import add_trace_id

if TYPE_CHECKING:
    from structlog.types import EventDict, Processor

    from goqueue.config.settings import Settings

#: They say for every request and message what our own events say better.
_CHATTY = ("httpx", "httpcore", "alembic", "asyncio")

ERROR_MAX_CHARACTERS = 500

#: Values that are no text and have no parts.
_PLAIN = frozenset({int, float, bool, type(None)})

#: Of many lines, made by us.
_LINES = frozenset({"stack", "exception"})


def configure_logging(settings: Settings) -> None:
    """Send every record of this process to standard error: for people on a terminal, as JSON otherwise.

    Replaces root handlers that are there already: Dramatiq's command installs its own before it imports the
    actors.
    """
    protect(settings.secrets())
    is_console = _is_console(settings.log_format)
    shared = _shared_processors(timestamp="%H:%M:%S" if is_console else "iso")
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[settings.log_level]
        ),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(_StandardError())
    handler.addFilter(retell_dramatiq)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(is_console=is_console),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level)
    logging.captureWarnings(capture=True)
    for chatty in _CHATTY:
        logging.getLogger(chatty).setLevel(logging.WARNING)


def retell_dramatiq(record: logging.LogRecord) -> bool:
    """A filter: Dramatiq's records as an operator wants them. False drops one.

    Dramatiq tells a failed attempt twice, first with a traceback of its own frames and then what `Retries`
    decided. The attempt's row keeps the error and the traceback; the log gets one line, `attempt_failed`,
    with the error and the verdict. What Dramatiq says at INFO besides is about its threads. At DEBUG all of
    it stays as it is.
    """
    if not record.name.startswith("dramatiq") or logging.getLogger().isEnabledFor(logging.DEBUG):
        return True
    verdict = _VERDICTS.get(str(record.msg))
    if verdict is not None:
        _become_event(record, verdict)
        return True
    # The result of every job is in its row, whatever Dramatiq knows of a middleware for results.
    is_told_otherwise = str(record.msg).startswith(("Failed to process message", "Actor '"))
    return record.levelno > logging.INFO and not is_told_otherwise


#: What `dramatiq.middleware.Retries` says of every failed attempt, exactly one of them.
_VERDICTS = {
    "Retrying message %r in %d milliseconds.": "retry",
    "Retries exceeded for message %r.": "out_of_retries",
    "Aborting message %r.": "discarded",
}


def _become_event(record: logging.LogRecord, verdict: str) -> None:
    told = known_error.get() or _error_that_is_handled()
    record.name, record.msg, record.args = "goqueue.attempts", "attempt_failed", ()
    record.levelno, record.levelname = logging.WARNING, "WARNING"
    record.verdict = verdict
    if told is not None:
        record.error = " ".join(told.split())[:ERROR_MAX_CHARACTERS]


def _error_that_is_handled() -> str | None:
    """The line of it. Retries logs while the exception is being handled, in the thread that handles it."""
    error = sys.exc_info()[1]
    if error is not None and issubclass(type(error), Translated) and error.__cause__ is not None:
        error = error.__cause__
    return None if error is None else ExceptionReader(error).line


class _StandardError:
    """The present `sys.stderr`: Dramatiq replaces it in its worker processes after the import."""

    def write(self, text: str) -> int:
        try:
            return sys.stderr.write(text)
        except UnicodeEncodeError as error:
            # A terminal of another encoding: a line with numbers for some characters, instead of none.
            return sys.stderr.write(text.encode(error.encoding, "backslashreplace").decode(error.encoding))

    def flush(self) -> None:
        sys.stderr.flush()


def _shared_processors(*, timestamp: str) -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        add_job_context,
        add_trace_id,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        # A person looks at the clock on the wall; machines compare machines.
        structlog.processors.TimeStamper(fmt=timestamp, utc=timestamp == "iso"),
        structlog.processors.StackInfoRenderer(),
    ]


def _is_terminal() -> bool:
    # Dramatiq's worker processes write through a pipe to their parent, whose standard error decides.
    return sys.__stderr__ is not None and sys.__stderr__.isatty()


def _is_console(log_format: str) -> bool:
    return log_format == "console" or (log_format == "auto" and _is_terminal())


def redact_secrets(_logger: object, _method: str, event: EventDict) -> EventDict:
    """A structlog processor: every text of a record without the secrets in it."""
    texts = [value for value in event.values() if isinstance(value, str)]
    if len(texts) + sum(type(value) in _PLAIN for value in event.values()) == len(event):
        # Most records have no secret, and nothing with parts: one look at all of it tells.
        together = "\n".join(texts)
        if redact(together) == together:
            return event
    return {name: redact_values(value) for name, value in event.items()}


def _make_printable(_logger: object, _name: str, event: EventDict) -> EventDict:
    """A processor: names and errors, which clients made, do not steer the terminal that shows them."""
    return {
        name: printable(value, keep="\n\t" if name in _LINES else "") if isinstance(value, str) else value
        for name, value in event.items()
    }


def _renderers(*, is_console: bool) -> list[Processor]:
    renderer: Processor = structlog.processors.JSONRenderer()
    if is_console:
        renderer = structlog.dev.ConsoleRenderer(colors=_is_terminal())
    # Tracebacks are text before the secrets in it are masked.
    processors: list[Processor] = [structlog.processors.format_exc_info, withhold_contents, redact_secrets]
    return [*processors, _make_printable, renderer] if is_console else [*processors, renderer]
