"""Scopes, each of which allows a key one kind of action, and the roles that stand for several of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType

from goqueue.errors import InvalidJobError

__all__ = ["ROLES", "Scope", "effective", "scopes_of"]


class Scope(StrEnum):
    """One kind of action that a key may be allowed."""

    JOBS_CREATE = "jobs:create"
    #: Jobs, queues, types, schedules, workers and failures, without what jobs hold.
    JOBS_READ = "jobs:read"
    #: What jobs hold: payloads, results, the texts of errors, logs.
    PAYLOADS_READ = "payloads:read"
    #: Cancel, retry, edit, and operations over many jobs.
    JOBS_MANAGE = "jobs:manage"
    #: Run jobs outside of the workers of GoQueue: move them, count attempts, keep results.
    JOBS_RUN = "jobs:run"
    #: Pauses, limits, keys of queues, settings of types, breakers.
    QUEUES_MANAGE = "queues:manage"
    SCHEDULES_MANAGE = "schedules:manage"
    WORKERS_MANAGE = "workers:manage"
    EVENTS_READ = "events:read"
    #: Who is told of events over HTTP.
    WEBHOOKS_MANAGE = "webhooks:manage"
    METRICS_READ = "metrics:read"
    KEYS_MANAGE = "keys:manage"
    #: Everything, also what is added later.
    ADMIN = "admin"


_NAMES = frozenset(scope.value for scope in Scope)

_READS = frozenset({Scope.JOBS_READ, Scope.EVENTS_READ, Scope.METRICS_READ})

#: Role → its scopes.
ROLES: Mapping[str, frozenset[Scope]] = MappingProxyType(
    {
        "client": frozenset({Scope.JOBS_CREATE, Scope.JOBS_READ, Scope.PAYLOADS_READ}),
        "viewer": _READS,
        "operator": _READS
        | {
            Scope.JOBS_CREATE,
            Scope.PAYLOADS_READ,
            Scope.JOBS_MANAGE,
            Scope.QUEUES_MANAGE,
            Scope.SCHEDULES_MANAGE,
            Scope.WORKERS_MANAGE,
            Scope.WEBHOOKS_MANAGE,
        },
        "admin": frozenset({Scope.ADMIN}),
        "metrics": frozenset({Scope.METRICS_READ}),
        "worker": frozenset({Scope.JOBS_READ, Scope.PAYLOADS_READ, Scope.JOBS_RUN}),
    }
)


def scopes_of(names: Iterable[str], *, field: str = "scopes") -> frozenset[Scope]:
    """Return the scopes that these names of scopes and roles stand for.

    Args:
        names: `jobs:read`, `operator`.
        field: what an error calls the list.

    Raises:
        InvalidJobError: one is neither; the error lists those that there are.
    """
    found: set[Scope] = set()
    for name in names:
        if name in ROLES:
            found |= ROLES[name]
        elif name in _NAMES:
            found.add(Scope(name))
        else:
            known = ", ".join([*Scope, *ROLES])
            raise InvalidJobError({field: f"there is no scope or role {name!r}; there are {known}"})
    return frozenset(found)


def effective(scopes: Iterable[Scope]) -> frozenset[Scope]:
    """Return everything that these scopes allow: `admin` allows all."""
    given = frozenset(scopes)
    return frozenset(Scope) if Scope.ADMIN in given else given
