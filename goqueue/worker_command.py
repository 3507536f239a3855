"""One worker process: Dramatiq's command, with what its parent half says in our log pipeline.

`python -m goqueue.worker_command goqueue.actors …` is `dramatiq goqueue.actors --skip-logging …`, which
would print the death of its worker as bare text between lines of JSON.
"""

from __future__ import annotations

import sys

from dramatiq.cli import main

from goqueue.config import get_settings
from goqueue.logging import configure_logging

if __name__ == "__main__":
    configure_logging(get_settings())
    sys.exit(main())  # type: ignore[no-untyped-call]  # Dramatiq's
