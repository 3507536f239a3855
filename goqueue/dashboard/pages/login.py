"""Logging in with an API key, and out."""

from __future__ import annotations

import math

import falcon
import structlog

from goqueue.api.frame.security import KeyRing
from goqueue.dashboard.guard import FOLDER, form_of, is_dashboard, set_session
from goqueue.dashboard.notices import go_to
from goqueue.dashboard.page import Page, Site
from goqueue.dashboard.sign_in_attempts import SignInAttempts

__all__ = ["LoginPage", "LogoutAction"]

log = structlog.get_logger(__name__)

WRONG = "This service does not know that key."


class LoginPage(Page):
    """The login, where API keys are configured."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._keys = KeyRing(site.context.settings.api_keys)
        self._attempts = SignInAttempts()

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """The form."""
        self._show(request, response, _place_of(request.get_param("next")))

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Log in, and go where the browser wanted to be."""
        form = form_of(request)
        place = _place_of(form.get("next"))
        address = request.remote_addr
        wait = self._attempts.wait_seconds(address)
        if wait:
            self._refuse_for_now(request, response, place, wait)
            return
        key = self._keys.find(form.get("key", "").strip())
        if key is None:
            self._attempts.note_failure(address)
            log.warning("sign_in_refused", address=address)
            response.status = falcon.HTTP_403
            self._show(request, response, place, wrong=WRONG)
            return
        self._attempts.forget(address)
        # A new name: one that was planted before the login is worth nothing after it.
        sessions = self._site.sessions
        session = sessions.sign_in(key.hash, address=address, user_agent=request.user_agent)
        log.info("signed_in", address=address, key=key.label)
        set_session(request, response, sessions, session)
        response.status = falcon.HTTP_303
        response.location = place

    def _refuse_for_now(
        self, request: falcon.Request, response: falcon.Response, place: str, wait_seconds: float
    ) -> None:
        seconds = math.ceil(wait_seconds)
        log.warning("sign_in_limited", address=request.remote_addr, retry_after_seconds=seconds)
        response.status = falcon.HTTP_429
        response.set_header("Retry-After", str(seconds))
        wrong = f"Too many wrong keys came from this address. Try again in {seconds} s."
        self._show(request, response, place, wrong=wrong)

    def _show(
        self, request: falcon.Request, response: falcon.Response, place: str, *, wrong: str | None = None
    ) -> None:
        self._renderer.page(request, response, "login.html", next=place, wrong=wrong)


class LogoutAction(Page):
    """The way out."""

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """End the session; the browser gets one that knows no key."""
        sessions = self._site.sessions
        sessions.sign_out(request.context.session)
        log.info("signed_out", address=request.remote_addr)
        go_to(request, response, f"{FOLDER}/login", "You are logged out.")
        set_session(request, response, sessions, sessions.begin())


def _place_of(wanted: str | None) -> str:
    """Where to go after the login: only to a page of ours, whatever a link says."""
    if wanted and is_dashboard(wanted.partition("?")[0]) and "\\" not in wanted and wanted.isprintable():
        return wanted
    return FOLDER
