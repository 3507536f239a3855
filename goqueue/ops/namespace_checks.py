"""The checks of an API over several namespaces: one that is away keeps it from serving no other."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import structlog

from goqueue.errors import ConfigurationError, StartupError
from goqueue.observability.tracing.export import check_tracing
from goqueue.ops.checks import RETRY_SECONDS, check_database, ensure_ready, problems_of_check, redis_problems

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from goqueue.config.settings import Settings

__all__ = ["ensure_one_ready"]

log = structlog.get_logger(__name__)


def ensure_one_ready(
    settings: Settings, checks: Sequence[Callable[[Settings], None]], *, wait_seconds: float
) -> None:
    """Check an API before it serves: of several namespaces one has to be ready, and others are warned of.

    Args:
        settings: those of the process.
        checks: what it needs besides the servers.
        wait_seconds: how long to wait while no namespace is ready.

    Raises:
        ConfigurationError: something that waiting does not mend.
        StartupError: no namespace became ready in time.
    """
    namespaces = settings.of_all_namespaces()
    if len(namespaces) == 1:
        ensure_ready(settings, checks, wait_seconds=wait_seconds)
        return
    problems = [
        line for one in [check_tracing, *checks] for line in problems_of_check(partial(one, settings))
    ]
    if problems:
        raise ConfigurationError(problems)
    deadline = time.monotonic() + wait_seconds
    with ThreadPoolExecutor(len(namespaces)) as threads:
        while True:
            wrong = dict(zip(namespaces, threads.map(_problems_of, namespaces.values()), strict=True))
            if not all(wrong.values()):
                break
            if time.monotonic() >= deadline:
                raise StartupError(f"no namespace is ready (waited {wait_seconds:g} s): {_told(wrong)}")
            time.sleep(RETRY_SECONDS)
    for name, lines in wrong.items():
        if lines:
            log.warning("namespace_not_ready", namespace=name, error="; ".join(lines))


def _problems_of(settings: Settings) -> list[str]:
    """What keeps a namespace from being served; a Redis that does not answer does not."""
    return problems_of_check(partial(check_database, settings)) + redis_problems(settings)


def _told(wrong: dict[str, list[str]]) -> str:
    return "; ".join(f"{name}: {line}" for name, lines in wrong.items() for line in lines)
