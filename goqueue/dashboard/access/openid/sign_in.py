"""The sign-in at the provider, from the address that a browser is sent to, to the user who comes back.

Authorization code flow with PKCE (OpenID Connect Core 1.0 section 3.1, RFC 7636, RFC 9207): the code comes
with the browser, the tokens from the provider itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import httpx
from authlib.common.errors import AuthlibBaseError
from authlib.oauth2.client import OAuth2Client

from goqueue.access.principal import Principal, User
from goqueue.access.users import claims_that_matter, claims_wanted, principal_of_user
from goqueue.config.settings import Settings
from goqueue.dashboard.access.openid.calls import ProviderCalls
from goqueue.dashboard.access.openid.handshake import Handshake
from goqueue.dashboard.access.openid.id_tokens import read_id_token
from goqueue.dashboard.access.openid.provider import Provider, ProviderAddresses
from goqueue.errors import ProviderUnavailableError, SignInRefusedError

__all__ = ["OpenIdSignIn", "SignedInUser"]

#: An ID token that makes the address of the sign-out longer is not sent along.
ID_TOKEN_MAX_CHARACTERS = 4_000

NAME_MAX_CHARACTERS = 100

#: Of so many threads of a process of the API one may wait for the provider; the others have keys to look at.
THREADS_FOR_EACH_CALL = 4

#: What people are called, where the claim of the settings says nothing.
NAME_CLAIMS = ("name", "preferred_username", "email")

#: As RFC 6749 writes the code of an error.
_ERROR_CODE = re.compile(r"[a-z_]{1,60}")


@dataclass(frozen=True, slots=True)
class SignedInUser:
    """A user who came back from the provider.

    Attributes:
        principal: what the user may do.
        claims: what the provider said, as far as the rules look at it.
        id_token: what the provider is shown when the user signs out there; None: it is too long for that.
    """

    principal: Principal
    claims: Mapping[str, Any]
    id_token: str | None


class OpenIdSignIn:
    """The sign-in at the provider that the settings name. Thread-safe.

    Args:
        settings: with an `oidc_issuer`.
    """

    def __init__(self, settings: Settings) -> None:
        assert settings.oidc_issuer is not None
        assert settings.oidc_client_id is not None
        self._client_id = settings.oidc_client_id
        self._secret = settings.oidc_client_secret
        self._scopes = settings.oidc_scopes
        self._provider_name = settings.oidc_provider_name
        self._rules = settings.oidc_roles
        self._name_claim = settings.oidc_name_claim
        at_once = max(1, settings.api_threads // THREADS_FOR_EACH_CALL)
        self._calls = ProviderCalls(settings.oidc_timeout_seconds, at_once=at_once)
        self._provider = Provider(settings.oidc_issuer, self._calls)

    def address(self, handshake: Handshake, redirect_uri: str) -> str:
        """Return the address at the provider that a browser is sent to.

        Raises:
            ProviderUnavailableError: the provider does not say what it is.
        """
        addresses = self._provider.addresses()
        url, _ = self._client(addresses, redirect_uri).create_authorization_url(
            addresses.authorization,
            state=handshake.state,
            nonce=handshake.nonce,
            code_verifier=handshake.verifier,
        )
        return str(url)

    def finish(self, handshake: Handshake, answer: Mapping[str, str], redirect_uri: str) -> SignedInUser:
        """Return the user who came back with this answer of the provider.

        Args:
            handshake: that was begun in the same browser.
            answer: the query that the browser came back with.
            redirect_uri: the same as when it was sent.

        Raises:
            SignInRefusedError: the answer is of another sign-in, says no, is not what it should be, or no
                rule gives the user a role.
            ProviderUnavailableError: the provider does not answer.
        """
        self._expect_answer(handshake, answer)
        tokens = self._tokens(handshake, answer["code"], redirect_uri)
        id_token, access_token = tokens.get("id_token"), tokens.get("access_token")
        if not isinstance(id_token, str) or not isinstance(access_token, str):
            raise SignInRefusedError("The provider did not say who you are.", "no ID token")
        claims = read_id_token(
            id_token,
            self._provider,
            client_id=self._client_id,
            nonce=handshake.nonce,
            access_token=access_token,
        )
        return self._user(self._with_user_info(claims, access_token), id_token)

    def end_session_address(self, id_token: str | None, back: str) -> str | None:
        """Return where a user signs out at the provider, which then sends the browser back; None: nowhere.

        Args:
            id_token: of the sign-in.
            back: the address of the login here, as the provider has to know it.

        Raises:
            ProviderUnavailableError: the provider does not say what it is.
        """
        end_session = self._provider.addresses().end_session
        if end_session is None:
            return None
        query = {"client_id": self._client_id, "post_logout_redirect_uri": back}
        if id_token is not None:
            query["id_token_hint"] = id_token
        return f"{end_session}{'&' if '?' in end_session else '?'}{urlencode(query)}"

    def _client(self, addresses: ProviderAddresses, redirect_uri: str) -> OAuth2Client:
        return OAuth2Client(
            self._calls,
            client_id=self._client_id,
            client_secret=None if self._secret is None else self._secret.get_secret_value(),
            token_endpoint_auth_method=self._auth_method(addresses),
            scope=" ".join(self._scopes),
            redirect_uri=redirect_uri,
            code_challenge_method="S256",
        )

    def _auth_method(self, addresses: ProviderAddresses) -> str:
        if self._secret is None:
            return "none"
        is_basic = "client_secret_basic" in addresses.auth_methods
        return "client_secret_basic" if is_basic else "client_secret_post"

    def _expect_answer(self, handshake: Handshake, answer: Mapping[str, str]) -> None:
        if not handshake.has_state(answer.get("state", "")):
            raise SignInRefusedError("This sign-in was begun in another browser, or in another tab.", "state")
        issuer = answer.get("iss")
        if issuer != self._provider.issuer and (issuer or self._provider.addresses().names_itself):
            raise SignInRefusedError("The answer is not the provider's.", "iss of the answer")
        error = answer.get("error")
        if error is not None:
            raise _refused_by_provider(error)
        if not answer.get("code"):
            raise SignInRefusedError("The answer of the provider is not what it should be.", "no code")

    def _tokens(self, handshake: Handshake, code: str, redirect_uri: str) -> Mapping[str, Any]:
        addresses = self._provider.addresses()
        try:
            tokens: Mapping[str, Any] = self._client(addresses, redirect_uri).fetch_token(
                addresses.token,
                grant_type="authorization_code",
                code=code,
                code_verifier=handshake.verifier,
            )
        except AuthlibBaseError as error:
            raise _refused_tokens(str(error.error)) from None
        except (httpx.HTTPError, ValueError, TypeError):
            raise ProviderUnavailableError("it gave no tokens") from None
        return tokens

    def _with_user_info(self, claims: Mapping[str, Any], access_token: str) -> Mapping[str, Any]:
        """The claims with what the provider says at its other address, where something is missing."""
        found = claims_that_matter(self._rules, claims)
        wanted = claims_wanted(self._rules)
        address = self._provider.addresses().userinfo
        if address is None or (wanted <= found.keys() and self._name_claim in claims):
            return claims
        told = self._calls.get(address, bearer=access_token)
        # OpenID Connect Core 1.0 section 5.3.2: without this, one could be given the claims of another.
        if told.get("sub") != claims["sub"]:
            raise SignInRefusedError(
                "The answer of the provider is not what it should be.", "sub of the user info"
            )
        return {**told, **claims}

    def _user(self, claims: Mapping[str, Any], id_token: str) -> SignedInUser:
        user = User(self._provider.issuer, claims["sub"], _name(claims, self._name_claim))
        kept = claims_that_matter(self._rules, claims)
        # By what is kept: the session can do now what it can do in an hour.
        principal = principal_of_user(self._rules, user, kept)
        if principal is None:
            raise SignInRefusedError(
                f"You are signed in as {user.name} at {self._provider_name}, but no rule of this service "
                "gives you a role. Ask those who run it: the rules are in GOQUEUE_OIDC_ROLES.",
                "no role",
                subject=user.subject,
            )
        return SignedInUser(principal, kept, id_token if len(id_token) <= ID_TOKEN_MAX_CHARACTERS else None)


def _refused_by_provider(error: str) -> SignInRefusedError:
    code = error if _ERROR_CODE.fullmatch(error) else "unknown"
    if code == "access_denied":
        return SignInRefusedError("The sign-in was cancelled, or the provider refused it.", code)
    if code in ("temporarily_unavailable", "server_error"):
        return SignInRefusedError("The provider cannot sign anybody in at the moment. Try again later.", code)
    return SignInRefusedError(f"The provider answered with the error {code}.", code)


def _refused_tokens(error: str) -> SignInRefusedError:
    if error == "invalid_grant":
        return SignInRefusedError("This sign-in was used already, or took too long.", error)
    code = error if _ERROR_CODE.fullmatch(error) else "unknown"
    return SignInRefusedError(
        f"The provider refused this service itself, with the error {code}. Tell those who run it.", code
    )


def _name(claims: Mapping[str, Any], claim: str) -> str:
    """What people call the user: what the claims say first, or else the subject."""
    for one in (claim, *NAME_CLAIMS):
        said = claims.get(one)
        name = "".join(filter(str.isprintable, said)).strip() if isinstance(said, str) else ""
        if name:
            return name[:NAME_MAX_CHARACTERS]
    return str(claims["sub"])
