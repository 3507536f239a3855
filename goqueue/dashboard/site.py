"""Every page of the dashboard, on one screen."""

from __future__ import annotations

from goqueue.api.app import App, GuardedSite
from goqueue.api.context import Context
from goqueue.api.problems import answer_pages_with
from goqueue.dashboard.assets import Assets, AssetsResource
from goqueue.dashboard.guard import DashboardGuard, is_dashboard
from goqueue.dashboard.page import Site
from goqueue.dashboard.pages.login import LoginPage, LogoutAction
from goqueue.dashboard.pages.overview import OverviewPage, RootPage
from goqueue.dashboard.rendering import Renderer
from goqueue.dashboard.sessions import Sessions

__all__ = ["DASHBOARD", "add_dashboard"]


def add_dashboard(app: App, context: Context) -> None:
    """Serve the dashboard at /dashboard of this application."""
    sessions = Sessions(context.settings)
    assets = Assets()
    site = Site(context, Renderer(context.settings, sessions, assets.url), sessions)
    answer_pages_with(app, is_dashboard, site.renderer.problem)
    app.add_middleware(DashboardGuard(context.settings, sessions))
    app.add_route("/dashboard/static/{name:path}", AssetsResource(assets))
    _add_pages(app, site)


#: For `create_app`.
DASHBOARD = GuardedSite(is_dashboard, add_dashboard)


def _add_pages(app: App, site: Site) -> None:
    app.add_route("/", RootPage())
    app.add_route("/dashboard", OverviewPage(site))
    app.add_route("/dashboard/login", LoginPage(site))
    app.add_route("/dashboard/logout", LogoutAction(site))
