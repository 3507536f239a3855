"""One worker process: Dramatiq's command, with what its parent half says in our log pipeline.

`python -m goqueue.worker_command goqueue.actors …` is `dramatiq goqueue.actors --skip-logging …`, which
would print the death of its worker as bare text between lines of JSON.
"""

from __future__ import annotations

import logging
import sys

from dramatiq.cli import main

from goqueue.config import get_settings
from goqueue.logging import configure_logging


def without_alarm(record: logging.LogRecord) -> bool:
    """A worker that ends by itself and without an error was told to stop: that is no critical event."""
    if record.levelno == logging.CRITICAL and isinstance(record.args, tuple) and record.args[1:] == (0,):
        record.levelno, record.levelname = logging.INFO, "INFO"
    return True


if __name__ == "__main__":
    configure_logging(get_settings())
    logging.getLogger("dramatiq.MainProcess").addFilter(without_alarm)
    sys.exit(main())  # type: ignore[no-untyped-call]  # Dramatiq's
