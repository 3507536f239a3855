"""A guard: in the processes of the tests no metric is made that `metrics.py` does not declare."""

from __future__ import annotations

from typing import Any

import prometheus_client

from goqueue.observability import metrics


class UndeclaredMetricError(AssertionError):
    """Raised where a metric is made that is not declared."""


def refuse_undeclared() -> None:
    """Let every later registration of a metric fail, unless its name is declared."""
    register = prometheus_client.REGISTRY.register

    def checked(collector: Any) -> None:
        names = {described.name for described in collector.describe()}
        declared = {declaration.name.removesuffix("_total") for declaration in metrics.declared().values()}
        if names - declared:
            raise UndeclaredMetricError(
                f"declare {', '.join(names - declared)} in goqueue/observability/metrics.py"
            )
        register(collector)

    prometheus_client.REGISTRY.register = checked  # type: ignore[method-assign]
