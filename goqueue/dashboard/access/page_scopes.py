"""The scopes that each page of the dashboard takes, to look at it and to change something there."""

from __future__ import annotations

from typing import NamedTuple

from goqueue.access.principal import Principal
from goqueue.access.scopes import Scope
from goqueue.api.operations import plain_template

__all__ = ["PAGES", "PageScopes", "scopes_of_page"]


class PageScopes(NamedTuple):
    """The scopes of a page.

    Attributes:
        reads: all of these to look at it.
        changes: all of these for what is done there; None: nothing is.
    """

    reads: tuple[Scope, ...] = (Scope.JOBS_READ,)
    changes: tuple[Scope, ...] | None = None

    def may_read(self, principal: Principal) -> bool:
        """Tell whether somebody may look at it."""
        return all(map(principal.may, self.reads))

    def may_change(self, principal: Principal) -> bool:
        """Tell whether somebody may do what is done there."""
        return self.changes is not None and all(map(principal.may, self.changes))


_OPEN = PageScopes((), ())
_READ = PageScopes()
_JOBS = PageScopes(changes=(Scope.JOBS_MANAGE,))
_QUEUES = PageScopes(changes=(Scope.QUEUES_MANAGE,))
_SCHEDULES = PageScopes(changes=(Scope.SCHEDULES_MANAGE,))
_WORKERS = PageScopes(changes=(Scope.WORKERS_MANAGE,))
_KEYS = PageScopes((Scope.KEYS_MANAGE,), (Scope.KEYS_MANAGE,))
_ADMIN = PageScopes((Scope.ADMIN,), (Scope.ADMIN,))
_WEBHOOKS = PageScopes((Scope.EVENTS_READ,), (Scope.WEBHOOKS_MANAGE,))
_ACTION_ON_WEBHOOK = PageScopes((Scope.WEBHOOKS_MANAGE,), (Scope.WEBHOOKS_MANAGE,))
_ACTION_ON_JOB = PageScopes((Scope.JOBS_MANAGE,), (Scope.JOBS_MANAGE,))

#: Template of the address → its scopes. A page that is not here is refused.
PAGES: dict[str, PageScopes] = {
    "/": _OPEN,
    "/dashboard": _READ,
    "/dashboard/overview.json": _READ,
    "/dashboard/static/{name}": _OPEN,
    "/dashboard/login": _OPEN,
    "/dashboard/login/start": PageScopes(()),
    "/dashboard/login/callback": PageScopes(()),
    "/dashboard/logout": _OPEN,
    "/dashboard/sessions": _KEYS,
    "/dashboard/sessions/end": _KEYS,
    "/dashboard/keys": _KEYS,
    "/dashboard/keys/{key_id}/revoke": _KEYS,
    "/dashboard/keys/{key_id}/rotate": _KEYS,
    # Only those of `default`, which the pages see to.
    "/dashboard/namespaces": _ADMIN,
    "/dashboard/namespaces/{name}": _ADMIN,
    "/dashboard/namespaces/{name}/delete": _ADMIN,
    "/dashboard/audit": PageScopes((Scope.ADMIN,)),
    "/dashboard/audit.jsonl": PageScopes((Scope.ADMIN,)),
    "/dashboard/create": PageScopes((Scope.JOBS_CREATE,), (Scope.JOBS_CREATE,)),
    "/dashboard/failures": _READ,
    "/dashboard/failures/{fingerprint}": _JOBS,
    "/dashboard/schedules": _SCHEDULES,
    # Its form has the payload of the schedule's jobs.
    "/dashboard/schedules-edit": PageScopes(
        (Scope.SCHEDULES_MANAGE, Scope.PAYLOADS_READ), (Scope.SCHEDULES_MANAGE, Scope.PAYLOADS_READ)
    ),
    "/dashboard/schedules/{name}": _SCHEDULES,
    "/dashboard/types": _QUEUES,
    "/dashboard/types/{name}": _QUEUES,
    "/dashboard/queues": _QUEUES,
    "/dashboard/queues/{name}": _QUEUES,
    "/dashboard/queue-chart.json": _READ,
    "/dashboard/jobs": _JOBS,
    "/dashboard/jobs/selected": _ACTION_ON_JOB,
    "/dashboard/jobs/{job_id}": _JOBS,
    # Its form has the payload.
    "/dashboard/jobs/{job_id}/edit": PageScopes(
        (Scope.JOBS_MANAGE, Scope.PAYLOADS_READ), (Scope.JOBS_MANAGE, Scope.PAYLOADS_READ)
    ),
    "/dashboard/jobs/{job_id}/cancel": _ACTION_ON_JOB,
    "/dashboard/jobs/{job_id}/retry": _ACTION_ON_JOB,
    "/dashboard/jobs/{job_id}/clone": PageScopes(
        (Scope.JOBS_MANAGE, Scope.JOBS_CREATE), (Scope.JOBS_MANAGE, Scope.JOBS_CREATE)
    ),
    "/dashboard/jobs/{job_id}/delete": _ACTION_ON_JOB,
    "/dashboard/jobs/{job_id}/files/{name}": PageScopes((Scope.JOBS_READ, Scope.PAYLOADS_READ)),
    "/dashboard/operations": _JOBS,
    "/dashboard/operations/new": _ACTION_ON_JOB,
    "/dashboard/operations/{operation_id}": _JOBS,
    "/dashboard/operations/{operation_id}/abort": _ACTION_ON_JOB,
    "/dashboard/workers": _WORKERS,
    "/dashboard/workers/{worker_id}/quiet": _WORKERS,
    "/dashboard/workers/{worker_id}/resume": _WORKERS,
    "/dashboard/workers/{worker_id}/stop": _WORKERS,
    "/dashboard/webhooks": _WEBHOOKS,
    "/dashboard/webhooks/{name}": _WEBHOOKS,
    "/dashboard/webhooks/{name}/ping": _ACTION_ON_WEBHOOK,
    "/dashboard/webhooks/{name}/rotate": _ACTION_ON_WEBHOOK,
    "/dashboard/webhooks/{name}/enable": _ACTION_ON_WEBHOOK,
    "/dashboard/webhooks/{name}/disable": _ACTION_ON_WEBHOOK,
    "/dashboard/webhooks/{name}/delete": _ACTION_ON_WEBHOOK,
    "/dashboard/webhooks/{name}/redeliver": _ACTION_ON_WEBHOOK,
    "/dashboard/webhooks/{name}/deliveries/{delivery_id}": _WEBHOOKS,
    "/dashboard/webhooks/{name}/deliveries/{delivery_id}/redeliver": _ACTION_ON_WEBHOOK,
}

_REFUSED = PageScopes((Scope.ADMIN,), (Scope.ADMIN,))


def scopes_of_page(template: str | None) -> PageScopes:
    """Return the scopes of a page, by the template of its address as the application has it."""
    return PAGES.get(plain_template(template), _REFUSED)
