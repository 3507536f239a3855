"""Signing in as a user at the provider of OpenID Connect: the way there, and back."""

from __future__ import annotations

from urllib.parse import urlencode

import falcon
import structlog

from goqueue.dashboard.access.guard import LOGIN, SIGN_IN_CALLBACK, cookie_name, is_secure, set_session
from goqueue.dashboard.access.openid.handshake import (
    HANDSHAKE_COOKIE,
    HANDSHAKE_SECONDS,
    Handshake,
    HandshakeSigner,
)
from goqueue.dashboard.page import Site
from goqueue.dashboard.pages.login import SignInPage, external, place_of
from goqueue.errors import ProviderUnavailableError, SignInRefusedError

__all__ = ["FinishUserSignIn", "StartUserSignIn"]

log = structlog.get_logger(__name__)

TOO_LATE = "This sign-in was begun too long ago, or in another browser. Begin again."
TOO_MANY = "Too many sign-ins began at this address."


class _UserSignIn(SignInPage):
    """The base of both ways, there and back."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._handshakes = HandshakeSigner(site.sessions.signer)

    def _redirect_uri(self, request: falcon.Request) -> str:
        return external(request, self._goqueue.settings.oidc_public_url, SIGN_IN_CALLBACK)

    def _say_away(
        self, request: falcon.Request, response: falcon.Response, place: str, error: ProviderUnavailableError
    ) -> None:
        settings = self._goqueue.settings
        log.warning("sign_in_provider_unavailable", issuer=settings.oidc_issuer, error=str(error))
        response.set_header("Retry-After", "5")
        wrong = f"{settings.oidc_provider_name} does not answer as it should. Try again later, or use a key."
        self._show(request, response, place, wrong=wrong, status=falcon.HTTP_503)


class StartUserSignIn(_UserSignIn):
    """The way to the provider."""

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Send the browser to the provider, with a cookie by which it is known when it comes back."""
        place = place_of(request.get_param("next"))
        sign_in = self._site.sign_in
        if sign_in is None:
            raise falcon.HTTPNotFound
        if request.get_header("Sec-Fetch-Site") == "cross-site" or not _is_page(request):
            # Pages of others begin nothing here, and use up nobody's attempts; their links show the login.
            raise falcon.HTTPSeeOther(f"{LOGIN}?{urlencode({'next': place})}")
        if self._is_refused_for_now(request, response, place):
            return
        wait = self._site.starts.wait_seconds(request.remote_addr)
        if wait:
            self._refuse_for_now(request, response, place, wait, TOO_MANY)
            return
        self._site.starts.note(request.remote_addr)
        handshake = self._handshakes.begin(place)
        try:
            address = sign_in.address(handshake, self._redirect_uri(request))
        except ProviderUnavailableError as error:
            self._say_away(request, response, place, error)
            return
        self._keep(request, response, handshake)
        response.set_header("Cache-Control", "no-store")
        response.status = falcon.HTTP_303
        response.location = address

    def _keep(self, request: falcon.Request, response: falcon.Response, handshake: Handshake) -> None:
        response.set_cookie(
            cookie_name(request, HANDSHAKE_COOKIE),
            self._handshakes.write(handshake, request.context.session),
            max_age=HANDSHAKE_SECONDS,
            path="/",
            http_only=True,
            same_site="Lax",
            secure=is_secure(request),
        )


class FinishUserSignIn(_UserSignIn):
    """The way back from the provider."""

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Sign the user in who came back, and go where the browser wanted to be."""
        if self._site.sign_in is None:
            raise falcon.HTTPNotFound
        if not _is_page(request):
            raise falcon.HTTPForbidden(description="a sign-in comes back as a page, not as a part of one")
        response.set_header("Cache-Control", "no-store")
        handshake = self._take(request, response)
        place = place_of(None if handshake is None else handshake.place)
        if self._is_refused_for_now(request, response, place):
            return
        try:
            self._sign_in(request, response, handshake)
        except ProviderUnavailableError as error:
            self._say_away(request, response, place, error)
        except SignInRefusedError as error:
            self._refuse(request, response, place, error)
        else:
            response.status = falcon.HTTP_303
            response.location = place

    def _take(self, request: falcon.Request, response: falcon.Response) -> Handshake | None:
        """The sign-in that this browser began, once: its cookie is taken away."""
        name = cookie_name(request, HANDSHAKE_COOKIE)
        values = request.get_cookie_values(name)
        if not values:
            return None
        response.unset_cookie(name, path="/", same_site="Lax")
        return self._handshakes.read(values[0], request.context.session)

    def _sign_in(
        self, request: falcon.Request, response: falcon.Response, handshake: Handshake | None
    ) -> None:
        """Sign the user in.

        Raises:
            SignInRefusedError: the answer of the provider is not what it should be.
            ProviderUnavailableError: the provider does not answer.
        """
        assert self._site.sign_in is not None
        if handshake is None:
            raise SignInRefusedError(TOO_LATE, "no sign-in of this browser")
        answer = {name: request.get_param(name) or "" for name in request.params}
        found = self._site.sign_in.finish(handshake, answer, self._redirect_uri(request))
        address, sessions = request.remote_addr, self._site.sessions
        session = sessions.sign_in(
            found.principal,
            address=address,
            user_agent=request.user_agent,
            claims=found.claims,
            id_token=found.id_token,
        )
        self._site.failures.forget(address)
        user = found.principal.user
        assert user is not None
        log.info("user_signed_in", address=address, user=user.name, subject=user.subject, issuer=user.issuer)
        set_session(request, response, sessions.signer, session)

    def _refuse(
        self, request: falcon.Request, response: falcon.Response, place: str, error: SignInRefusedError
    ) -> None:
        address = request.remote_addr
        self._site.failures.note(address)
        log.warning("user_sign_in_refused", address=address, reason=error.reason, subject=error.subject)
        self._show(request, response, place, wrong=str(error), status=falcon.HTTP_403)


def _is_page(request: falcon.Request) -> bool:
    """Whether a browser asks for a page to be shown, and not for a picture or a frame of another's page."""
    return request.get_header("Sec-Fetch-Dest") in (None, "document")
