"""`python -m bench.installed …`: Dramatiq's command as an installation has it, for both systems alike.

Development brings packages that others import where they find them: structlog takes rich with pygments and
attrs, OpenTelemetry's SDK takes psutil. They would count as the memory of a worker, five megabytes of it.
"""

from __future__ import annotations

import runpy
import sys

ONLY_IN_DEVELOPMENT = ("rich", "psutil")


def main() -> None:
    """Run Dramatiq's command without them."""
    for name in ONLY_IN_DEVELOPMENT:
        # Python's own mark of a package that is not there.
        sys.modules[name] = None  # type: ignore[assignment]
    runpy.run_module("dramatiq", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
