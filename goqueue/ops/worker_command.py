"""One worker process: Dramatiq's command, with what its parent half says in our log pipeline.

`python -m goqueue.ops.worker_command goqueue.actors …` is `dramatiq goqueue.actors --skip-logging …`, which
would print the death of its worker as bare text between lines of JSON.
"""

from __future__ import annotations

import logging
import os
import signal
import sys

from dramatiq import cli

from goqueue.config.settings import get_settings
from goqueue.observability.logging import configure_logging


def without_alarm(record: logging.LogRecord) -> bool:
    """Lower the critical record of a worker that ended without an error to INFO: it was told to stop."""
    if record.levelno == logging.CRITICAL and isinstance(record.args, tuple) and record.args[1:] == (0,):
        record.levelno, record.levelname = logging.INFO, "INFO"
    return True


def prepare_signals() -> None:
    """Let no signal reach a worker before it can take it, and none start the command again.

    A worker of Dramatiq's breaks when it is told to stop in the moment between its handlers and its logger;
    here it hears nothing until it imports the actors, which take the signals over. And Dramatiq's parent,
    when it is hung up, replaces itself by what it takes for the command, which is not this one.
    """
    parent = os.getpid()
    unblock = cli.try_unblock_signals

    def unblock_in_parent() -> None:
        if os.getpid() == parent:
            unblock()  # type: ignore[no-untyped-call]  # Dramatiq's

    cli.try_unblock_signals = unblock_in_parent
    cli.HANDLED_SIGNALS.discard(signal.SIGHUP)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])


if __name__ == "__main__":
    configure_logging(get_settings())
    prepare_signals()
    logging.getLogger("dramatiq.MainProcess").addFilter(without_alarm)
    sys.exit(cli.main())  # type: ignore[no-untyped-call]  # Dramatiq's
