"""Logging in with an API key, and out."""

from __future__ import annotations

import falcon

from goqueue.api.security import KeyRing
from goqueue.dashboard.guard import FOLDER, form_of, is_dashboard, set_session
from goqueue.dashboard.notices import go_to
from goqueue.dashboard.page import Page, Site

__all__ = ["LoginPage", "LogoutAction"]


class LoginPage(Page):
    """The login, where API keys are configured."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._keys = KeyRing(site.context.settings.api_keys)

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """The form."""
        self._renderer.page(
            request, response, "login.html", next=_place_of(request.get_param("next")), wrong=False
        )

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Log in, and go where the browser wanted to be."""
        form = form_of(request)
        place = _place_of(form.get("next"))
        if not self._keys.accepts(form.get("key", "").strip()):
            response.status = falcon.HTTP_403
            self._renderer.page(request, response, "login.html", next=place, wrong=True)
            return
        # A new name: one that was planted before the login is worth nothing after it.
        sessions = self._site.sessions
        set_session(request, response, sessions, sessions.begin(knows_key=True))
        response.status = falcon.HTTP_303
        response.location = place


class LogoutAction(Page):
    """The way out."""

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Forget the key; the browser gets a session that knows none."""
        sessions = self._site.sessions
        go_to(request, response, f"{FOLDER}/login", "You are logged out.")
        set_session(request, response, sessions, sessions.begin(knows_key=False))


def _place_of(wanted: str | None) -> str:
    """Where to go after the login: only to a page of ours, whatever a link says."""
    if wanted and is_dashboard(wanted.partition("?")[0]) and "\\" not in wanted and wanted.isprintable():
        return wanted
    return FOLDER
