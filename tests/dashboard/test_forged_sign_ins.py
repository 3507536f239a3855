"""Sign-ins that are not what they should be: forged tokens, wrong answers, and a provider that is away."""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey
from pydantic import SecretStr
from structlog.testing import capture_logs

from goqueue.dashboard.access.attempts import ATTEMPTS_MAX, STARTS_MAX
from goqueue.dashboard.access.openid import calls as provider_calls
from goqueue.dashboard.access.openid import handshake as handshakes
from goqueue.dev.fakes.http_server import FakeAnswer, FakeRequest
from goqueue.errors import ProviderUnavailableError
from tests.support.dashboard import signing_in
from tests.support.dashboard.client import DashboardClient
from tests.support.dashboard.signing_in import (
    ADA,
    CALLBACK,
    HOST,
    START,
    MakeBrowser,
    assert_refused,
    come_back,
    is_in,
    sign_in,
    start,
    told,
)
from tests.support.servers.openid_provider import CLIENT_ID, FakeUser, OpenIdProvider
from tests.support.shared_database import emptied_database, module_settings
from tests.support.waiting import wait_until

settings = module_settings
database = emptied_database
running_provider = signing_in.running_provider
provider = signing_in.provider
browser_of = signing_in.browser_of
browser = signing_in.browser


# Tokens that are not what they should be

STRANGER = RSAKey.generate_key(2048)


Claims = dict[str, Any]


def seconds_from_now(seconds: int) -> int:
    """A moment as tokens have them."""
    return int(time.time()) + seconds


#: What the provider says in a token that is signed as it should be; None: nothing.
WRONG_CLAIMS: dict[str, Callable[[Claims], Claims]] = {
    "for another client": lambda _: {"aud": "another"},
    "for another client, made for us": lambda _: {"aud": "another", "azp": CLIENT_ID},
    "for others, and not for us": lambda _: {"aud": ["another", "third"]},
    "for us and others, made for nobody": lambda _: {"aud": [CLIENT_ID, "another"]},
    "for us, made for another client": lambda _: {"azp": "another"},
    "for nobody": lambda _: {"aud": None},
    "of another issuer": lambda _: {"iss": "https://evil.example"},
    "of an issuer with a slash more": lambda claims: {"iss": f"{claims['iss']}/"},
    "with another nonce": lambda _: {"nonce": "x" * 64},
    "without a nonce": lambda _: {"nonce": None},
    "expired": lambda _: {"exp": seconds_from_now(-61)},
    "that never ends": lambda _: {"exp": None},
    "of tomorrow": lambda _: {"iat": seconds_from_now(86_400)},
    "that is not good yet": lambda _: {"nbf": seconds_from_now(600)},
    "of another access token": lambda _: {"at_hash": "x" * 22},
    "without a subject": lambda _: {"sub": None},
    "with an empty subject": lambda _: {"sub": ""},
}

STRANGER = RSAKey.generate_key(2048)


def encoded(part: Mapping[str, Any]) -> str:
    """A part of a token."""
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def not_signed(_provider: OpenIdProvider, header: Claims, claims: Claims) -> str:
    """A token that nobody signed."""
    return f"{encoded({**header, 'alg': 'none'})}.{encoded(claims)}."


def signed_by_the_public_key(provider: OpenIdProvider, header: Claims, claims: Claims) -> str:
    """A token that is signed with HS256 by the public key, which everybody has."""
    text = f"{encoded({**header, 'alg': 'HS256'})}.{encoded(claims)}"
    signature = hmac.new(provider.key.as_pem(private=False), text.encode(), hashlib.sha256).digest()
    return f"{text}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def signed_by_a_stranger(_provider: OpenIdProvider, header: Claims, claims: Claims) -> str:
    """A token of a key that is called like the provider's."""
    return jwt.encode(header, claims, STRANGER)


def of_an_unknown_key(_provider: OpenIdProvider, header: Claims, claims: Claims) -> str:
    """A token of a key that the provider does not tell."""
    return jwt.encode({**header, "kid": "unknown"}, claims, STRANGER)


def with_its_own_key(_provider: OpenIdProvider, _header: Claims, claims: Claims) -> str:
    """A token that brings the key along by which it is to be checked."""
    header = {"alg": "RS256", "jwk": STRANGER.as_dict(private=False)}
    return jwt.encode(header, claims, STRANGER)


def changed_afterwards(provider: OpenIdProvider, header: Claims, claims: Claims) -> str:
    """A token that says something else than what was signed."""
    head, _, signature = provider.sign(header, claims).split(".")
    return f"{head}.{encoded(claims | {'groups': ['ops', 'root']})}.{signature}"


def no_token(_provider: OpenIdProvider, _header: Claims, _claims: Claims) -> str:
    """A text of another kind."""
    return "no token"


FORGERIES = (
    not_signed,
    signed_by_the_public_key,
    signed_by_a_stranger,
    of_an_unknown_key,
    with_its_own_key,
    changed_afterwards,
    no_token,
)


def assert_forgery_refused(browser: DashboardClient, provider: OpenIdProvider) -> None:
    """Nobody is signed in, and the page says nothing of how it was noticed; the log does."""
    with capture_logs() as logs:
        answer = sign_in(browser, provider)
    assert_refused(browser, answer)
    (line,) = [line for line in logs if line["event"] == "user_sign_in_refused"]
    assert line["reason"]
    assert line["reason"] not in answer.text
    assert provider.token_requests


@pytest.mark.parametrize("wrong", WRONG_CLAIMS)
def test_a_token_that_says_something_else_is_refused(
    browser: DashboardClient, provider: OpenIdProvider, wrong: str
) -> None:
    """However well it is signed."""

    def forge(header: Claims, claims: Claims) -> str:
        changed = claims | WRONG_CLAIMS[wrong](claims)
        return provider.sign(header, {name: value for name, value in changed.items() if value is not None})

    provider.forge = forge
    assert_forgery_refused(browser, provider)


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_token_that_the_provider_did_not_sign_is_refused(
    browser: DashboardClient, provider: OpenIdProvider, forgery: Callable[..., str]
) -> None:
    """However right everything is that it says."""
    provider.forge = functools.partial(forgery, provider)
    assert_forgery_refused(browser, provider)


@pytest.mark.parametrize("subject", ["a\nb", "a\x00", "a" * 256, " \u200b\u202e"], ids=ascii)
def test_a_subject_that_nobody_could_write_down_is_refused(
    browser: DashboardClient, provider: OpenIdProvider, subject: str
) -> None:
    """It stands in the audit log for ever."""
    provider.users["odd"] = FakeUser(subject, ADA.in_token)
    assert_refused(browser, sign_in(browser, provider, "odd"))


def test_a_token_that_expired_just_now_is_taken(browser: DashboardClient, provider: OpenIdProvider) -> None:
    """Two clocks are never the same. So the forgeries are refused for what they are, and nothing else."""
    provider.forge = lambda header, claims: provider.sign(header, claims | {"exp": seconds_from_now(-30)})
    assert sign_in(browser, provider).status_code == 303


def test_a_token_for_us_and_others_that_was_made_for_us_is_taken(
    browser: DashboardClient, provider: OpenIdProvider
) -> None:
    """As OpenID Connect Core 1.0 section 3.1.3.7 has it."""
    ours = {"aud": [CLIENT_ID, "another"], "azp": CLIENT_ID}
    provider.forge = lambda header, claims: provider.sign(header, claims | ours)
    assert sign_in(browser, provider).status_code == 303


# Keys


def test_a_new_key_of_the_provider_is_found(browser: DashboardClient, provider: OpenIdProvider) -> None:
    """Keys are kept, and read again when one is missing: once for a rotation, and not for every sign-in."""
    for _ in range(2):
        assert sign_in(browser, provider).status_code == 303
    assert provider.asked["/keys"] == 1
    provider.rotate(keep=1)
    for _ in range(2):
        assert sign_in(browser, provider).status_code == 303
    assert provider.asked["/keys"] == 2
    assert provider.asked["/.well-known/openid-configuration"] == 1


def test_a_key_that_was_withdrawn_is_not_believed_for_ever(
    browser: DashboardClient, provider: OpenIdProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an hour the keys are those of then."""
    now = time.monotonic

    def later() -> float:
        return now() + 3_601

    sign_in(browser, provider)
    old = provider.key
    provider.rotate()
    provider.forge = lambda header, claims: jwt.encode({**header, "kid": old.kid}, claims, old)
    assert sign_in(browser, provider).status_code == 303
    monkeypatch.setattr("goqueue.dashboard.access.openid.provider.time.monotonic", later)
    assert sign_in(browser, provider).status_code == 403


@pytest.mark.parametrize(
    ("change", "status"),
    [({}, 303), ({"use": "enc"}, 403), ({"alg": "RS512"}, 403), ({"kid": "x"}, 403)],
    ids=str,
)
def test_only_a_key_for_this_signature_checks_it(
    browser: DashboardClient,
    provider: OpenIdProvider,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
    status: int,
) -> None:
    """One for something else, for another algorithm or of another name does not; unknown kinds hide none."""
    tell = provider.answer_to
    key = provider.key.as_dict(private=False) | change

    def answer_to(request: FakeRequest) -> FakeAnswer:
        keys = {"keys": [{"kty": "XYZ", "kid": "new"}, {"kid": "nothing"}, 7, key]}
        is_keys = request.path.endswith("/keys")
        return FakeAnswer(body=json.dumps(keys).encode()) if is_keys else tell(request)

    monkeypatch.setattr(provider, "answer_to", answer_to)
    assert sign_in(browser, provider).status_code == status


def test_a_provider_with_one_key_need_not_name_it(browser: DashboardClient, provider: OpenIdProvider) -> None:
    """With several, a token without a name is refused."""
    provider.forge = lambda _, claims: jwt.encode({"alg": "RS256"}, claims, provider.key)
    provider.rotate()
    assert sign_in(browser, provider).status_code == 303
    provider.rotate(keep=1)
    answer = sign_in(browser, provider)
    assert answer.status_code == 403
    provider.rotate()


# Ways back that are none


def test_the_state_of_another_browser_is_refused(browser_of: MakeBrowser, provider: OpenIdProvider) -> None:
    """A link that somebody sends with a code of their own signs nobody in as them."""
    mine, other = browser_of(), browser_of()
    trap = provider.let_in(start(other), "ada")
    assert_refused(mine, come_back(mine, trap))
    begun = start(mine)
    assert begun
    assert_refused(mine, come_back(mine, trap))
    assert not provider.token_requests


def test_a_planted_cookie_opens_nothing(browser_of: MakeBrowser, provider: OpenIdProvider) -> None:
    """The sign-in of another browser is good in the session of that one alone."""
    mine, other = browser_of(), browser_of()
    trap = provider.let_in(start(other), "ada")
    mine.get("/dashboard/login")
    mine.cookies[handshakes.HANDSHAKE_COOKIE] = other.cookies[handshakes.HANDSHAKE_COOKIE]
    assert_refused(mine, come_back(mine, trap))


def test_a_code_is_good_once(browser: DashboardClient, provider: OpenIdProvider) -> None:
    """Who finds the address afterwards is not in, even with the cookie of then."""
    address = provider.let_in(start(browser), "ada")
    kept = dict(browser.cookies)
    assert come_back(browser, address).status_code == 303
    assert come_back(browser, address).status_code == 403
    browser.cookies = dict(kept)
    assert_refused(browser, come_back(browser, address))
    assert len(provider.token_requests) == 2


def test_a_code_of_another_sign_in_is_refused(browser_of: MakeBrowser, provider: OpenIdProvider) -> None:
    """A code that was stolen is worth nothing with another verifier (PKCE)."""
    mine, other = browser_of(), browser_of()
    stolen = parse_qs(urlsplit(provider.let_in(start(other), "ada")).query)["code"][0]
    address = provider.let_in(start(mine), "bob", code=stolen)
    assert_refused(mine, come_back(mine, address))


@pytest.mark.parametrize(
    ("lies", "fits"),
    [
        ({"state": "x" * 64}, False),
        ({"state": ""}, False),
        ({"iss": "https://evil.example"}, False),
        ({"iss": ""}, False),
        ({"code": ""}, False),
        ({"code": "x"}, False),
        ({"more": "x"}, True),
    ],
    ids=str,
)
def test_every_part_of_the_answer_is_looked_at(
    browser: DashboardClient, provider: OpenIdProvider, lies: dict[str, str], fits: bool
) -> None:
    """State, issuer (RFC 9207) and code; what nobody knows is no harm."""
    answer = come_back(browser, provider.let_in(start(browser), "ada", **lies))
    if fits:
        assert answer.status_code == 303
    else:
        assert_refused(browser, answer)


def test_a_provider_that_never_names_itself_need_not(
    browser: DashboardClient, provider: OpenIdProvider
) -> None:
    """Only one that says that it does."""
    provider.metadata["authorization_response_iss_parameter_supported"] = None
    answer = come_back(browser, provider.let_in(start(browser), "ada", iss=""))
    assert answer.status_code == 303


def test_a_sign_in_has_to_end_in_time(
    browser: DashboardClient, provider: OpenIdProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After ten minutes it is begun again."""
    monkeypatch.setattr(handshakes, "HANDSHAKE_SECONDS", -1)
    assert_refused(browser, come_back(browser, provider.let_in(start(browser), "ada")))


@pytest.mark.parametrize("part", range(4))
def test_every_part_of_the_cookie_is_signed(
    browser: DashboardClient, provider: OpenIdProvider, part: int
) -> None:
    """Name, time, place and signature."""
    address = provider.let_in(start(browser), "ada")
    parts = browser.cookies[handshakes.HANDSHAKE_COOKIE].split(".")
    changed = {0: "A" * 24, 1: "99999999999", 2: "%2Fdashboard%2Fkeys", 3: "0" * 64}[part]
    browser.cookies[handshakes.HANDSHAKE_COOKIE] = ".".join([*parts[:part], changed, *parts[part + 1 :]])
    assert_refused(browser, come_back(browser, address))


@pytest.mark.parametrize(
    "cookie", ["", "....", "a.b.c.d", "\xff\xff", "x" * 5000, f"{'A' * 24}.9.x.{'0' * 64}"], ids=repr
)
def test_what_is_no_cookie_of_ours_is_no_error(browser: DashboardClient, cookie: str) -> None:
    """Whatever a browser sends is refused."""
    browser.get("/dashboard/login")
    browser.cookies[handshakes.HANDSHAKE_COOKIE] = cookie
    assert browser.get(f"{CALLBACK}?code=x&state=y&code=z").status_code == 403


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("access_denied", "cancelled"),
        ("login_required", "login_required"),
        ("server_error", "at the moment"),
        ("<script>alert(1)</script>", "unknown"),
    ],
)
def test_errors_of_the_provider_are_told_in_plain_words(
    browser: DashboardClient, provider: OpenIdProvider, error: str, said: str
) -> None:
    """And nothing that a link could say in its name."""
    address = provider.refuse(start(browser), error, error_description="Call 555 and say your password")
    answer = come_back(browser, address)
    assert_refused(browser, answer)
    assert said in told(answer)
    assert "555" not in answer.text
    assert "alert(1)" not in answer.text


def test_pages_of_others_begin_nothing(browser: DashboardClient, provider: OpenIdProvider) -> None:
    """Neither pictures nor links of theirs use up the attempts of whoever looks at them."""
    foreign = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Dest": "image"}
    for headers in (foreign, foreign | {"Sec_Fetch_Dest": "document"}, {"Sec_Fetch_Dest": "iframe"}):
        for _ in range(STARTS_MAX + 1):
            answer = browser.get(f"{START}?next=/dashboard/keys", **headers)
            assert answer.headers["location"] == "/dashboard/login?next=%2Fdashboard%2Fkeys"
    for _ in range(ATTEMPTS_MAX + 1):
        assert browser.get(f"{CALLBACK}?code=x&state=y", **foreign).status_code == 403
    address = provider.let_in(start(browser), "ada")
    back = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Dest": "document"}
    assert browser.get(address.removeprefix(HOST), **back).status_code == 303
    assert is_in(browser)


# A provider that is away


def test_a_provider_that_is_away_does_not_stop_keys(
    browser_of: MakeBrowser, provider: OpenIdProvider
) -> None:
    """It is not asked when the API starts; its button says so, and a key opens as ever."""
    provider.away = True
    browser = browser_of()
    assert provider.asked.total() == 0
    browser.get("/dashboard/login")
    for _ in range(3):
        answer = browser.get(START)
        assert_refused(browser, answer, 503)
        assert "does not answer as it should" in told(answer)
        assert answer.headers["retry-after"] == "5"
    assert provider.asked.total() == 1
    assert browser.post("/dashboard/login", key="wrong").status_code == 403


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://evil.example"},
        {"token_endpoint": None},
        {"token_endpoint": 7},
        {"jwks_uri": "file:///etc/passwd"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"authorization_endpoint": "https://"},
        {"userinfo_endpoint": "gopher://x/"},
    ],
    ids=str,
)
def test_a_provider_that_describes_itself_wrongly_is_not_used(
    browser: DashboardClient, provider: OpenIdProvider, metadata: dict[str, Any]
) -> None:
    """It must be the one of the settings, and name addresses that are no less safe than its own."""
    provider.metadata = metadata
    browser.get("/dashboard/login")
    assert_refused(browser, browser.get(START), 503)


@pytest.mark.parametrize("status", [500, 302, 200])
def test_a_provider_that_gives_no_tokens_signs_nobody_in(
    browser: DashboardClient, provider: OpenIdProvider, status: int
) -> None:
    """It is away, or says no."""
    provider.token_status = status
    answer = sign_in(browser, provider)
    assert answer.status_code in (403, 503)
    assert not is_in(browser)


def test_a_secret_that_the_provider_does_not_know_is_told(
    browser_of: MakeBrowser, provider: OpenIdProvider
) -> None:
    """It is the service that is wrong, and not who signs in."""
    browser = browser_of(oidc_client_secret=SecretStr("wrong"))
    answer = sign_in(browser, provider)
    assert_refused(browser, answer)
    assert "refused this service itself, with the error invalid_client" in told(answer)


def test_few_threads_wait_for_a_provider(provider: OpenIdProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who comes when others wait for it is told so, and the rest of the threads go on."""
    tell, told_to_go_on = provider.answer_to, threading.Event()

    def answer_to(request: FakeRequest) -> FakeAnswer:
        answer = tell(request)
        told_to_go_on.wait(30)
        return answer

    monkeypatch.setattr(provider, "answer_to", answer_to)
    monkeypatch.setattr(provider_calls, "TURN_SECONDS", 0.01)
    calls = provider_calls.ProviderCalls(30.0, at_once=2)
    keys = f"{provider.issuer}/keys"
    with ThreadPoolExecutor(2) as threads:
        waiting = [threads.submit(calls.get, keys) for _ in range(2)]
        wait_until(lambda: provider.asked["/keys"] == len(waiting), 10, "all to wait")
        with pytest.raises(ProviderUnavailableError, match="too many sign-ins"):
            calls.get(keys)
        told_to_go_on.set()
        assert all(one.result()["keys"] for one in waiting)
    assert calls.get(keys)["keys"]
