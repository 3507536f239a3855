"""The readings of a namespace that several resources tell: whether its servers answer, and its counts."""

from __future__ import annotations

from typing import Any

from goqueue.access.quotas import Quotas
from goqueue.api.frame.reading import Reading
from goqueue.api.monitoring import Warnings, expect_ready, stats_document
from goqueue.instance import GoQueue

__all__ = ["NamespaceReadings", "word_of"]

#: How long a value is good: several who ask within this time are one question to each database.
GOOD_FOR_SECONDS = 1.0


class NamespaceReadings:
    """The readings of one namespace, each asked for no oftener than it matters.

    Attributes:
        name: of the namespace.
        ready: whether its PostgreSQL serves this release; no value: it does not.
        redis: whether its Redis answers.
        stats: as GET /stats answers.
        warnings: what an operator should look at.
    """

    def __init__(self, goqueue: GoQueue) -> None:
        self._goqueue = goqueue
        self.name = goqueue.settings.name_of_namespace
        self.ready = Reading(self._ask_ready, max_age_seconds=GOOD_FOR_SECONDS)
        self.redis = Reading(self._ask_redis, max_age_seconds=GOOD_FOR_SECONDS)
        self.stats = Reading(self._ask_stats, max_age_seconds=GOOD_FOR_SECONDS)
        self.warnings = Warnings(goqueue.settings, goqueue.database)

    @property
    def quotas(self) -> Quotas | None:
        """The quotas of one inside of a database."""
        found = self._goqueue.namespaces.find(self._goqueue.namespace)
        return None if found is None else found.quotas

    def _ask_ready(self) -> bool:
        expect_ready(self._goqueue)
        return True

    def _ask_redis(self) -> bool:
        self._goqueue.runway.ping()
        return True

    def _ask_stats(self) -> dict[str, Any]:
        return stats_document(self._goqueue)


def word_of(is_well: object) -> str:
    """Return the word for what answers, and for what does not."""
    return "ok" if is_well else "unavailable"
