"""Every page of the dashboard, on one screen."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from goqueue.access.users import check_sign_in
from goqueue.api.app import App, GuardedSite
from goqueue.api.frame.problems import answer_pages_with
from goqueue.config.settings import Settings
from goqueue.dashboard.access.guard import DashboardGuard, is_dashboard
from goqueue.dashboard.access.sessions import Sessions
from goqueue.dashboard.assets import Assets, AssetsResource
from goqueue.dashboard.namespace_choices import namespace_choices
from goqueue.dashboard.page import Site
from goqueue.dashboard.pages.audit import AuditLines, AuditPage
from goqueue.dashboard.pages.create import CreatePage
from goqueue.dashboard.pages.failures import FailurePage, FailuresPage
from goqueue.dashboard.pages.job import JobPage
from goqueue.dashboard.pages.job_actions import (
    CancelAction,
    CloneAction,
    DeleteAction,
    EditPage,
    RetryAction,
)
from goqueue.dashboard.pages.job_files import JobFile
from goqueue.dashboard.pages.jobs import JobsPage, SelectedJobsAction
from goqueue.dashboard.pages.keys import KeysPage, RevokeKeyAction, RotateKeyAction
from goqueue.dashboard.pages.login import LoginPage, LogoutAction
from goqueue.dashboard.pages.namespaces import DeleteNamespaceAction, NamespacePage, NamespacesPage
from goqueue.dashboard.pages.operations import (
    AbortAction,
    NewOperationPage,
    OperationPage,
    OperationsPage,
)
from goqueue.dashboard.pages.overview import OverviewData, OverviewPage, RootPage
from goqueue.dashboard.pages.queue import QueueChart, QueuePage
from goqueue.dashboard.pages.queues import QueueReader, QueuesPage
from goqueue.dashboard.pages.schedule_form import ScheduleForm
from goqueue.dashboard.pages.schedules import SchedulePage, SchedulesPage
from goqueue.dashboard.pages.sessions import EndSessionsAction, SessionsPage
from goqueue.dashboard.pages.types import TypePage, TypesPage
from goqueue.dashboard.pages.user_sign_in import FinishUserSignIn, StartUserSignIn
from goqueue.dashboard.pages.webhooks import (
    DeliveryPage,
    RedeliverAction,
    WebhookAction,
    WebhookPage,
    WebhooksPage,
)
from goqueue.dashboard.pages.workers import WorkerAction, WorkersPage
from goqueue.dashboard.rendering import PollMiddleware, Renderer
from goqueue.engine.workers.worker_rows import WorkerCommand
from goqueue.instance import GoQueue

if TYPE_CHECKING:
    from goqueue.dashboard.access.openid.sign_in import OpenIdSignIn

__all__ = ["DASHBOARD", "add_dashboard"]


def add_dashboard(app: App, goqueue: GoQueue) -> None:
    """Serve the dashboard at /dashboard of this application.

    Raises:
        ConfigurationError: users cannot sign in as the settings say.
    """
    sessions = _sessions_of(goqueue)
    assets = Assets()
    renderer = Renderer(goqueue.settings, sessions.signer, assets.url, partial(namespace_choices, goqueue))
    site = Site(goqueue, renderer, sessions, _sign_in_of(goqueue.settings))
    answer_pages_with(app, is_dashboard, site.renderer.problem)
    app.add_middleware(DashboardGuard(goqueue.settings, sessions))
    app.add_middleware(PollMiddleware(site.renderer))
    app.add_route("/dashboard/static/{name:path}", AssetsResource(assets))
    _add_pages(app, site)


def _sessions_of(goqueue: GoQueue) -> Sessions:
    home = None if goqueue.home is None else _sessions_of(goqueue.home)
    return Sessions(goqueue.settings, goqueue.database, goqueue.key_ring, home=home)


#: For `create_app`.
DASHBOARD = GuardedSite(is_dashboard, add_dashboard)


def _sign_in_of(settings: Settings) -> OpenIdSignIn | None:
    """The sign-in of users, where the settings name their provider."""
    # Users sign in to the installation, whose admins enter its namespaces; no rule says who belongs to one.
    if settings.oidc_issuer is None or settings.database_namespace is not None:
        return None
    check_sign_in(settings)
    # Its library comes with an extra, and takes a while to import.
    from goqueue.dashboard.access.openid.sign_in import OpenIdSignIn  # noqa: PLC0415

    return OpenIdSignIn(settings)


def _add_pages(app: App, site: Site) -> None:
    app.add_route("/", RootPage())
    app.add_route("/dashboard", OverviewPage(site))
    app.add_route("/dashboard/overview.json", OverviewData(site))
    app.add_route("/dashboard/login", LoginPage(site))
    app.add_route("/dashboard/login/start", StartUserSignIn(site))
    app.add_route("/dashboard/login/callback", FinishUserSignIn(site))
    app.add_route("/dashboard/logout", LogoutAction(site))
    app.add_route("/dashboard/sessions", SessionsPage(site))
    app.add_route("/dashboard/sessions/end", EndSessionsAction(site))
    app.add_route("/dashboard/keys", KeysPage(site))
    app.add_route("/dashboard/keys/{key_id}/revoke", RevokeKeyAction(site))
    app.add_route("/dashboard/keys/{key_id}/rotate", RotateKeyAction(site))
    app.add_route("/dashboard/namespaces", NamespacesPage(site))
    app.add_route("/dashboard/namespaces/{name}", NamespacePage(site))
    app.add_route("/dashboard/namespaces/{name}/delete", DeleteNamespaceAction(site))
    app.add_route("/dashboard/audit", AuditPage(site))
    app.add_route("/dashboard/audit.jsonl", AuditLines(site))
    app.add_route("/dashboard/create", CreatePage(site))
    app.add_route("/dashboard/failures", FailuresPage(site))
    app.add_route("/dashboard/failures/{fingerprint}", FailurePage(site))
    app.add_route("/dashboard/schedules", SchedulesPage(site))
    app.add_route("/dashboard/schedules-edit", ScheduleForm(site))
    app.add_route("/dashboard/schedules/{name:path}", SchedulePage(site))
    app.add_route("/dashboard/types", TypesPage(site))
    app.add_route("/dashboard/types/{name:path}", TypePage(site))
    queues = QueueReader(site)
    app.add_route("/dashboard/queues", QueuesPage(site, queues))
    app.add_route("/dashboard/queues/{name:path}", QueuePage(site, queues))
    app.add_route("/dashboard/queue-chart.json", QueueChart(site, queues))
    _add_job_pages(app, site)
    _add_worker_pages(app, site)
    _add_webhook_pages(app, site)


def _add_job_pages(app: App, site: Site) -> None:
    app.add_route("/dashboard/jobs", JobsPage(site))
    app.add_route("/dashboard/jobs/selected", SelectedJobsAction(site))
    job = "/dashboard/jobs/{job_id:job_id}"
    app.add_route(job, JobPage(site))
    app.add_route(f"{job}/edit", EditPage(site))
    app.add_route(f"{job}/cancel", CancelAction(site))
    app.add_route(f"{job}/retry", RetryAction(site))
    app.add_route(f"{job}/clone", CloneAction(site))
    app.add_route(f"{job}/delete", DeleteAction(site))
    app.add_route(f"{job}/files/{{name}}", JobFile(site))
    operation = "/dashboard/operations/{operation_id:job_id}"
    app.add_route("/dashboard/operations", OperationsPage(site))
    app.add_route("/dashboard/operations/new", NewOperationPage(site))
    app.add_route(operation, OperationPage(site))
    app.add_route(f"{operation}/abort", AbortAction(site))


def _add_worker_pages(app: App, site: Site) -> None:
    worker = "/dashboard/workers/{worker_id:job_id}"
    app.add_route("/dashboard/workers", WorkersPage(site))
    app.add_route(f"{worker}/quiet", WorkerAction(site, WorkerCommand.QUIET))
    app.add_route(f"{worker}/resume", WorkerAction(site, None))
    app.add_route(f"{worker}/stop", WorkerAction(site, WorkerCommand.STOP))


def _add_webhook_pages(app: App, site: Site) -> None:
    webhook = "/dashboard/webhooks/{name}"
    app.add_route("/dashboard/webhooks", WebhooksPage(site))
    app.add_route(webhook, WebhookPage(site))
    for action in ("ping", "rotate", "enable", "disable", "delete", "redeliver"):
        app.add_route(f"{webhook}/{action}", WebhookAction(site, action))
    delivery = f"{webhook}/deliveries/{{delivery_id:job_id}}"
    app.add_route(delivery, DeliveryPage(site))
    app.add_route(f"{delivery}/redeliver", RedeliverAction(site))
