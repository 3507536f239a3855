"""Logging in with an API key, and out."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict, deque

import falcon
import structlog

from goqueue.dashboard.access.guard import FOLDER, form_of, is_dashboard, set_session
from goqueue.dashboard.access.signing import Session
from goqueue.dashboard.notices import go_to
from goqueue.dashboard.page import Page, Site

__all__ = ["ATTEMPTS_MAX", "LoginPage", "LogoutAction"]

log = structlog.get_logger(__name__)

WRONG = "This service does not know that key."
RESTRICTED = "That key is restricted to some queues or types, and the dashboard shows all of them."

#: An address may fail so often in so many seconds, with each process of the API.
ATTEMPTS_MAX = 10
ATTEMPTS_SECONDS = 60.0

#: Of so many addresses the failures are remembered, those that failed last.
ADDRESSES_MAX = 10_000


class SignInAttempts:
    """The failed attempts to sign in, by address, over a sliding minute. Thread-safe."""

    def __init__(self) -> None:
        self._failed: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait_seconds(self, address: str) -> float:
        """Return how long this address has to wait for its next attempt; 0.0: it need not."""
        now = time.monotonic()
        with self._lock:
            failed = self._failed.get(address)
            if failed is None or len(failed) < ATTEMPTS_MAX:
                return 0.0
            return max(0.0, failed[0] + ATTEMPTS_SECONDS - now)

    def note_failure(self, address: str) -> None:
        """Count an attempt of this address that failed now."""
        with self._lock:
            failed = self._failed.setdefault(address, deque(maxlen=ATTEMPTS_MAX))
            failed.append(time.monotonic())
            self._failed.move_to_end(address)
            while len(self._failed) > ADDRESSES_MAX:
                self._failed.popitem(last=False)

    def forget(self, address: str) -> None:
        """Drop the failures of an address that showed a key."""
        with self._lock:
            self._failed.pop(address, None)


class LoginPage(Page):
    """The page of the login, where API keys are configured."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._keys = site.sessions.keys
        self._attempts = SignInAttempts()

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Show the form of the login."""
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
        principal = self._keys.find(form.get("key", "").strip())
        if principal is None or principal.is_restricted:
            self._attempts.note_failure(address)
            log.warning("sign_in_refused", address=address)
            response.status = falcon.HTTP_403
            self._show(request, response, place, wrong=WRONG if principal is None else RESTRICTED)
            return
        self._attempts.forget(address)
        # A new name: one that was planted before the login is worth nothing after it.
        sessions = self._site.sessions
        session = sessions.sign_in(principal, address=address, user_agent=request.user_agent)
        log.info("signed_in", address=address, key=principal.label)
        set_session(request, response, sessions.signer, session)
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
    """The action that ends the session of the browser."""

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """End the session; the browser gets one that knows no key."""
        sessions = self._site.sessions
        sessions.sign_out(request.context.session)
        log.info("signed_out", address=request.remote_addr)
        go_to(request, response, f"{FOLDER}/login", "You are logged out.")
        set_session(request, response, sessions.signer, Session.begin())


def _place_of(wanted: str | None) -> str:
    """Where to go after the login: only to a page of ours, whatever a link says."""
    if wanted and is_dashboard(wanted.partition("?")[0]) and "\\" not in wanted and wanted.isprintable():
        return wanted
    return FOLDER
