"""`python -m goqueue` is the `goqueue` command."""

from __future__ import annotations

import sys

from goqueue.cli import main

sys.exit(main())
