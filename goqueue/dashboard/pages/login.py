"""Logging in with an API key, and out."""

from __future__ import annotations

import math
from contextlib import closing

import falcon
import structlog

from goqueue.access.principal import NOBODY, Principal
from goqueue.api.app import NAMESPACE_PREFIX
from goqueue.config.namespaces import DEFAULT_NAMESPACE
from goqueue.dashboard.access.guard import FOLDER, LOGIN, form_of, is_dashboard, set_session
from goqueue.dashboard.access.session_rows import EndedSession
from goqueue.dashboard.access.sessions import Sessions
from goqueue.dashboard.access.signing import Session
from goqueue.dashboard.notices import go_to, say_next
from goqueue.dashboard.page import Page, Site
from goqueue.db.database import Database
from goqueue.errors import ProviderUnavailableError

__all__ = ["LoginPage", "LogoutAction", "SignInPage", "external", "place_of"]

log = structlog.get_logger(__name__)

WRONG = "This service does not know that key."
RESTRICTED = "That key is restricted to some queues or types, and the dashboard shows all of them."
LOGGED_OUT = "You are logged out."


class SignInPage(Page):
    """The base of all that signs somebody in: it shows the login with what went wrong."""

    def _is_refused_for_now(self, request: falcon.Request, response: falcon.Response, place: str) -> bool:
        """Tell whether the address of a request failed too often, and answer it then."""
        wait = self._site.failures.wait_seconds(request.remote_addr)
        if wait:
            self._refuse_for_now(
                request, response, place, wait, "Too many wrong keys came from this address."
            )
        return bool(wait)

    def _refuse_for_now(
        self, request: falcon.Request, response: falcon.Response, place: str, wait_seconds: float, why: str
    ) -> None:
        seconds = math.ceil(wait_seconds)
        log.warning("sign_in_limited", address=request.remote_addr, retry_after_seconds=seconds)
        response.set_header("Retry-After", str(seconds))
        self._show(request, response, place, wrong=f"{why} Try again in {seconds} s.", status=falcon.HTTP_429)

    def _show(
        self,
        request: falcon.Request,
        response: falcon.Response,
        place: str,
        *,
        wrong: str | None = None,
        status: str = falcon.HTTP_200,
    ) -> None:
        response.status = status
        self._renderer.page(request, response, "login.html", next=place, wrong=wrong)


class LoginPage(SignInPage):
    """The page of the login, where API keys are configured."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        own = site.goqueue.namespace
        # Also those of other namespaces inside of the database: whoever shows one is led there.
        self._keys = site.sessions.keys.within(None if own == DEFAULT_NAMESPACE else own)

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Show the form of the login."""
        self._show(request, response, place_of(request.get_param("next")))

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Log in, and go where the browser wanted to be."""
        form = form_of(request)
        place = place_of(form.get("next"))
        address = request.remote_addr
        if self._is_refused_for_now(request, response, place):
            return
        principal = self._keys.find(form.get("key", "").strip())
        if principal is None or principal.is_restricted:
            self._site.failures.note(address)
            log.warning("sign_in_refused", address=address)
            wrong = WRONG if principal is None else RESTRICTED
            self._show(request, response, place, wrong=wrong, status=falcon.HTTP_403)
            return
        self._site.failures.forget(address)
        log.info("signed_in", address=address, key=principal.label)
        response.status = falcon.HTTP_303
        if principal.opens(self._goqueue.namespace):
            self._begin(request, response, self._site.sessions, principal)
            response.location = place
        else:
            self._begin_elsewhere(request, response, principal)

    def _begin(
        self,
        request: falcon.Request,
        response: falcon.Response,
        sessions: Sessions,
        principal: Principal,
        *,
        namespace: str | None = None,
    ) -> None:
        # A new name: one that was planted before the login is worth nothing after it.
        session = sessions.sign_in(principal, address=request.remote_addr, user_agent=request.user_agent)
        set_session(request, response, sessions.signer, session, namespace=namespace)

    def _begin_elsewhere(
        self, request: falcon.Request, response: falcon.Response, principal: Principal
    ) -> None:
        """Sign in to the namespace that the key is of, and lead there."""
        name = principal.namespace
        settings = self._goqueue.settings.within(name)
        with closing(Database(settings, pool_size=1)) as database:
            sessions = Sessions(settings, database, self._keys.within(name))
            self._begin(request, response, sessions, principal, namespace=name)
        response.location = f"{NAMESPACE_PREFIX}{name}{FOLDER}"


class LogoutAction(Page):
    """The action that ends the session of the browser, and of a user at the provider as well."""

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """End the session; the browser gets one that knows no key."""
        sessions = self._site.sessions
        ended = sessions.sign_out(request.context.session)
        log.info("signed_out", address=request.remote_addr)
        elsewhere = self._place_at_provider(request, ended)
        request.context.principal, request.context.session = NOBODY, Session.begin()
        if elsewhere is None:
            go_to(request, response, LOGIN, LOGGED_OUT)
        else:
            say_next(request, response, LOGGED_OUT)
            # No redirect: by the policy of our pages no form leads to another site, and browsers check.
            self._renderer.page(request, response, "logout.html", elsewhere=elsewhere)
        set_session(request, response, sessions.signer, request.context.session)

    def _place_at_provider(self, request: falcon.Request, ended: EndedSession | None) -> str | None:
        """Where the user of a session signs out at the provider; None: there is no such place, or no user."""
        sign_in = self._site.sign_in
        if sign_in is None or ended is None or ended.issuer is None:
            return None
        back = external(request, self._goqueue.settings.oidc_public_url, LOGIN)
        try:
            return sign_in.end_session_address(ended.id_token, back)
        except ProviderUnavailableError as error:
            log.warning("sign_in_provider_unavailable", issuer=ended.issuer, error=str(error))
            return None


def external(request: falcon.Request, public_url: str | None, place: str) -> str:
    """Return the address of a place of this dashboard, as browsers and other servers know it.

    Args:
        request: says by which scheme, host and prefix of a namespace the dashboard was reached.
        public_url: scheme and host, where the settings say them.
        place: the path, as the dashboard has it.
    """
    root = public_url or f"{request.forwarded_scheme}://{request.forwarded_host}"
    return f"{root}{request.root_path}{place}"


def place_of(wanted: str | None) -> str:
    """Return where to go after the login: only to a page of ours, whatever a link says."""
    if wanted and is_dashboard(wanted.partition("?")[0]) and "\\" not in wanted and wanted.isprintable():
        return wanted
    return FOLDER
