"""A provider of OpenID Connect on loopback: real HTTP, signatures, PKCE, codes that are good once, new keys.

It is strict where a real one is: an unknown client, another redirect URI, a wrong verifier or a used code get
nothing. A test may let it tell lies, each in the way in which a forged or a broken token would come.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

from goqueue.dev.fakes.http_server import FakeAnswer, FakeRequest, HttpServer

__all__ = ["CLIENT_ID", "CLIENT_SECRET", "FakeUser", "OpenIdProvider"]

CLIENT_ID = "goqueue"
CLIENT_SECRET = "the secret of goqueue at its provider"

#: As Keycloak has them: an issuer with a path.
REALM = "/realms/shop"

TOKEN_SECONDS = 300

#: Makes an ID token of its header and its claims, in place of the provider.
Forge = Callable[[dict[str, Any], dict[str, Any]], str]


@dataclass(frozen=True, slots=True)
class FakeUser:
    """Somebody whom the provider knows.

    Attributes:
        subject: what the provider calls that one, for ever.
        in_token: claims that stand in the ID token.
        in_user_info: claims that it tells only at its other address.
    """

    subject: str
    in_token: Mapping[str, Any] = field(default_factory=dict)
    in_user_info: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Code:
    """What a code is good for."""

    user: FakeUser
    asked: Mapping[str, str]


class OpenIdProvider(HttpServer):
    """A provider with one client, this service, and some users.

    Attributes:
        users: by the name that the page of the sign-in has for them.
        redirect_uris: those that are registered, exactly.
        metadata: members of the discovery document that a test changes; None takes one away.
        forge: makes ID tokens in place of the provider; None: it makes them itself.
        user_info_subject: what the user info says whose it is; None: the truth.
        token_status: with which the token endpoint answers; None: as it should.
        away: it closes every connection without an answer.
        asked: how often each path was asked for.
        token_requests: the forms that came to the token endpoint.
    """

    def __init__(self, port: int = 0, *, client_secret: str | None = CLIENT_SECRET) -> None:
        super().__init__(port)
        self.client_secret = client_secret
        self.users: dict[str, FakeUser] = {}
        self.redirect_uris: set[str] = set()
        self.logout_uris: set[str] = set()
        self.metadata: dict[str, Any] = {}
        self.forge: Forge | None = None
        self.user_info_subject: str | None = None
        self.token_status: int | None = None
        self.away = False
        self.asked: Counter[str] = Counter()
        self.token_requests: list[dict[str, str]] = []
        self.logouts: list[dict[str, str]] = []
        self.keys: list[RSAKey] = []
        self._codes: dict[str, _Code] = {}
        self._access_tokens: dict[str, FakeUser] = {}
        self.rotate()

    @property
    def issuer(self) -> str:
        """What it calls itself."""
        return f"{self.url}{REALM}"

    @property
    def key(self) -> RSAKey:
        """The key that it signs with now."""
        return self.keys[-1]

    def rotate(self, *, keep: int = 0) -> None:
        """Sign with a new key from now on, and tell so many of those before beside it."""
        number = 1 + len(self.asked) + secrets.randbelow(10**9)
        made = RSAKey.generate_key(2048, {"kid": f"key-{number}", "use": "sig", "alg": "RS256"})
        self.keys = [*self.keys[len(self.keys) - keep :], made]

    def sign(self, header: Mapping[str, Any], claims: Mapping[str, Any]) -> str:
        """Sign an ID token as it does by itself."""
        return jwt.encode({"alg": "RS256", "kid": self.key.kid, **header}, dict(claims), self.key)

    def tell_the_truth(self) -> None:
        """End what a test told it to do wrong."""
        self.away, self.forge, self.token_status, self.user_info_subject = False, None, None, None
        self.metadata, self.client_secret = {}, CLIENT_SECRET

    def let_in(self, address: str, user: str, **lies: str) -> str:
        """Return where the browser is sent when a user signs in at the address that it was sent to."""
        asked = dict(parse_qsl(urlsplit(address).query, keep_blank_values=True))
        self._expect(asked)
        return self._redirect(asked, user, **lies)

    def refuse(self, address: str, error: str, **more: str) -> str:
        """Return where the browser is sent when the provider answers with an error."""
        asked = dict(parse_qsl(urlsplit(address).query))
        query = {"error": error, "state": asked["state"], "iss": self.issuer, **more}
        return f"{asked['redirect_uri']}?{urlencode(query)}"

    def answer(self, request: FakeRequest) -> FakeAnswer:
        """Answer a browser or a client, and keep no connection: a thread would wait on it beyond the test."""
        answer = self.answer_to(request)
        return replace(answer, headers={"Connection": "close", **answer.headers})

    def answer_to(self, request: FakeRequest) -> FakeAnswer:
        """Return the answer; a test may give another."""
        parts = urlsplit(request.path)
        path, query = parts.path.removeprefix(REALM), dict(parse_qsl(parts.query))
        with self.lock:
            self.asked[path] += 1
        if self.away:
            return FakeAnswer(lost=True)
        answers: dict[tuple[str, str], Callable[[], FakeAnswer]] = {
            ("GET", "/.well-known/openid-configuration"): lambda: _json(self._discovery()),
            ("GET", "/keys"): lambda: _json(KeySet(list(self.keys)).as_dict(private=False)),
            ("GET", "/authorize"): lambda: self._page(query),
            ("POST", "/authorize"): lambda: self._chosen(request, query),
            ("POST", "/token"): lambda: self._token(request),
            ("GET", "/userinfo"): lambda: self._user_info(request.headers.get("authorization", "")),
            ("GET", "/logout"): lambda: self._logout(query),
        }
        found = answers.get((request.method, path))
        return _json({"error": "not_found"}, 404) if found is None else found()

    def _discovery(self) -> dict[str, Any]:
        document = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "end_session_endpoint": f"{self.issuer}/logout",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "none"],
            "authorization_response_iss_parameter_supported": True,
        }
        return {name: value for name, value in {**document, **self.metadata}.items() if value is not None}

    def _expect(self, asked: Mapping[str, str]) -> None:
        """Refuse what a real provider refuses on a page of its own."""
        assert asked["client_id"] == CLIENT_ID, asked
        assert asked["response_type"] == "code", asked
        assert asked["redirect_uri"] in self.redirect_uris, asked["redirect_uri"]
        assert "openid" in asked["scope"].split(), asked
        assert asked["code_challenge_method"] == "S256", asked
        assert min(len(asked["state"]), len(asked["nonce"]), len(asked["code_challenge"])) >= 43, asked

    def _page(self, asked: Mapping[str, str]) -> FakeAnswer:
        """The page on which somebody says who that is."""
        self._expect(asked)
        action = html.escape(f"{REALM}/authorize?{urlencode(asked)}")
        buttons = "".join(
            f'<button name="user" value="{html.escape(name)}">{html.escape(name)}</button>'
            for name in self.users
        )
        form = f'<form method="post" action="{action}">{buttons}</form>'
        page = f'<!doctype html><html lang="en"><title>Shop</title><h1>Who are you?</h1>{form}</html>'
        return FakeAnswer(body=page.encode(), headers={"Content-Type": "text/html; charset=utf-8"})

    def _chosen(self, request: FakeRequest, asked: Mapping[str, str]) -> FakeAnswer:
        user = dict(parse_qsl(request.body.decode()))["user"]
        return FakeAnswer(303, b"", {"Location": self._redirect(asked, user)})

    def _redirect(self, asked: Mapping[str, str], user: str, **lies: str) -> str:
        code = secrets.token_urlsafe(24)
        self._codes[code] = _Code(self.users[user], asked)
        query = {"code": code, "state": asked["state"], "iss": self.issuer} | lies
        return f"{asked['redirect_uri']}?{urlencode(query)}"

    def _token(self, request: FakeRequest) -> FakeAnswer:
        form = dict(parse_qsl(request.body.decode()))
        with self.lock:
            self.token_requests.append(form)
            code = self._codes.pop(form.get("code", ""), None)
        if self.token_status is not None:
            return _json({"error": "server_error"}, self.token_status)
        if not self._is_client(request, form):
            return _json({"error": "invalid_client"}, 401)
        if code is None or form.get("grant_type") != "authorization_code":
            return _json({"error": "invalid_grant"}, 400)
        if form.get("redirect_uri") != code.asked["redirect_uri"]:
            return _json({"error": "invalid_grant"}, 400)
        if _challenge(form.get("code_verifier", "")) != code.asked["code_challenge"]:
            return _json({"error": "invalid_grant"}, 400)
        return _json(self._tokens(code))

    def _is_client(self, request: FakeRequest, form: Mapping[str, str]) -> bool:
        if self.client_secret is None:
            return form.get("client_id") == CLIENT_ID
        kind, _, text = request.headers.get("authorization", "").partition(" ")
        if kind != "Basic":
            return False
        client_id, _, secret = base64.b64decode(text).decode().partition(":")
        return (unquote(client_id), unquote(secret)) == (CLIENT_ID, self.client_secret)

    def _tokens(self, code: _Code) -> dict[str, Any]:
        access_token = secrets.token_urlsafe(24)
        self._access_tokens[access_token] = code.user
        now = int(time.time())
        half = hashlib.sha256(access_token.encode()).digest()[:16]
        claims = {
            "iss": self.issuer,
            "sub": code.user.subject,
            "aud": CLIENT_ID,
            "iat": now,
            "exp": now + TOKEN_SECONDS,
            "nonce": code.asked["nonce"],
            "at_hash": base64.urlsafe_b64encode(half).rstrip(b"=").decode(),
            **code.user.in_token,
        }
        header = {"alg": "RS256", "kid": self.key.kid}
        id_token = self.sign(header, claims) if self.forge is None else self.forge(header, claims)
        return {
            "access_token": access_token,
            "token_type": "Bearer",
            "expires_in": TOKEN_SECONDS,
            "id_token": id_token,
        }

    def _user_info(self, authorization: str) -> FakeAnswer:
        user = self._access_tokens.get(authorization.removeprefix("Bearer "))
        if user is None:
            return _json({"error": "invalid_token"}, 401)
        subject = self.user_info_subject or user.subject
        return _json({"sub": subject, **user.in_token, **user.in_user_info})

    def _logout(self, asked: dict[str, str]) -> FakeAnswer:
        with self.lock:
            self.logouts.append(asked)
        back = asked.get("post_logout_redirect_uri", "")
        if back not in self.logout_uris:
            return _json({"error": "invalid_request"}, 400)
        return FakeAnswer(303, b"", {"Location": back})


def _challenge(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def _json(document: Mapping[str, Any], status: int = 200) -> FakeAnswer:
    return FakeAnswer(status, json.dumps(document).encode())
