"""Signing in to the dashboard as a user of a provider: the way, the roles, and what is noted."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from falcon import testing
from joserfc import jwt
from structlog.testing import capture_logs

from goqueue.access.keys import Keys
from goqueue.api.routing import create_router
from goqueue.audit import audit_rows
from goqueue.audit.audit_rows import AuditFilter
from goqueue.config.role_rules import rules_of
from goqueue.config.settings import Settings
from goqueue.dashboard.access import sessions as dashboard_sessions
from goqueue.dashboard.access.attempts import ATTEMPTS_MAX, STARTS_MAX
from goqueue.dashboard.access.openid import handshake as handshakes
from goqueue.dashboard.access.signing import COOKIE
from goqueue.dashboard.site import DASHBOARD
from goqueue.db.database import Database
from tests.support.dashboard import signing_in
from tests.support.dashboard.client import DashboardClient
from tests.support.dashboard.signing_in import (
    ADA,
    CALLBACK,
    HOST,
    RULES,
    START,
    MakeBrowser,
    assert_refused,
    come_back,
    is_in,
    sign_in,
    start,
    told,
)
from tests.support.servers.openid_provider import CLIENT_ID, CLIENT_SECRET, FakeUser, OpenIdProvider
from tests.support.shared_database import emptied_database, module_settings

settings = module_settings
database = emptied_database
running_provider = signing_in.running_provider
provider = signing_in.provider
browser_of = signing_in.browser_of
browser = signing_in.browser


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process remembers what it read of a session: a second of it is over."""
    monkeypatch.setattr(dashboard_sessions, "REMEMBERED_SECONDS", 0.0)


# The way that works


def test_a_user_signs_in_and_goes_back_to_where_the_browser_was(
    browser: DashboardClient, provider: OpenIdProvider
) -> None:
    """The session has the scopes of the roles, and no more; the cookie of the sign-in is gone."""
    answer = come_back(browser, provider.let_in(start(browser, "/dashboard/jobs?status=failed"), "ada"))
    assert answer.status_code == 303
    assert answer.headers["location"] == "/dashboard/jobs?status=failed"
    assert answer.headers["cache-control"] == "no-store"
    assert handshakes.HANDSHAKE_COOKIE not in browser.cookies
    assert browser.get("/dashboard/jobs").status_code == 200
    assert browser.get("/dashboard/keys").status_code == 200
    assert browser.get("/dashboard/audit").status_code == 403


def test_the_provider_is_asked_as_the_specification_says(browser: DashboardClient) -> None:
    """A code with S256, state and nonce, others each time, and the exact address to come back to."""
    asked = [parse_qs(urlsplit(start(browser)).query) for _ in range(2)]
    for one in asked:
        assert one["redirect_uri"] == [f"{HOST}{CALLBACK}"]
        assert one["response_type"] == ["code"]
        assert one["scope"] == ["openid profile email"]
        assert one["code_challenge_method"] == ["S256"]
    for name in ("state", "nonce", "code_challenge"):
        first, second = (one[name][0] for one in asked)
        assert first != second
        assert len(first) >= 43


def test_what_the_browser_holds_of_a_sign_in_says_nothing(
    browser: DashboardClient, provider: OpenIdProvider
) -> None:
    """Neither state, nor nonce, nor verifier stand in the cookie, which no script reads."""
    browser.get("/dashboard/login")
    answer = browser.get(START)
    cookie = answer.cookies[handshakes.HANDSHAKE_COOKIE]
    assert cookie.http_only
    assert cookie.same_site == "Lax"
    assert cookie.max_age == handshakes.HANDSHAKE_SECONDS
    asked = parse_qs(urlsplit(answer.headers["location"]).query)
    assert asked["state"][0] not in cookie.value
    assert asked["nonce"][0] not in cookie.value
    come_back(browser, provider.let_in(answer.headers["location"], "ada"))
    assert provider.token_requests[0]["code_verifier"] not in cookie.value


def test_behind_tls_the_cookie_is_of_this_host_alone(browser_of: MakeBrowser) -> None:
    """No neighbour of the domain can plant one; the browser comes back to what the proxy was asked for."""
    browser, secure = browser_of(), {"X_Forwarded_Proto": "https", "X_Forwarded_Host": "jobs.example.com"}
    browser.get("/dashboard/login", **secure)
    answer = browser.get(START, **secure)
    cookie = answer.cookies[f"__Host-{handshakes.HANDSHAKE_COOKIE}"]
    assert (cookie.secure, cookie.path) == (True, "/")
    assert not cookie.domain
    asked = parse_qs(urlsplit(answer.headers["location"]).query)
    assert asked["redirect_uri"] == [f"https://jobs.example.com{CALLBACK}"]


def test_the_settings_may_say_where_the_browser_comes_back_to(browser_of: MakeBrowser) -> None:
    """Behind a proxy that does not say how it was asked."""
    browser = browser_of(oidc_public_url="https://jobs.example.com")
    asked = parse_qs(urlsplit(start(browser)).query)
    assert asked["redirect_uri"] == [f"https://jobs.example.com{CALLBACK}"]


def test_each_namespace_has_its_own_way_back(
    settings: Settings, provider: OpenIdProvider, tmp_path: Path
) -> None:
    """Below its prefix, there and back, with a session that is good there alone."""
    file = tmp_path / "namespaces.toml"
    file.write_text(f'[beta]\ndatabase_url = "{settings.database_url.get_secret_value()}"\n')
    provider.redirect_uris.add(f"{HOST}/ns/beta{CALLBACK}")
    given = signing_in.settings_of(provider) | {"namespaces_file": str(file), "namespace": "beta"}
    router = create_router(settings.model_copy(update=given), site=DASHBOARD)
    try:
        beta = DashboardClient(testing.TestClient(router), base="/ns/beta")
        assert f'href="/ns/beta{START}' in beta.get("/dashboard/login").text
        location = beta.get(f"{START}?next=/dashboard/jobs").headers["location"]
        assert parse_qs(urlsplit(location).query)["redirect_uri"] == [f"{HOST}/ns/beta{CALLBACK}"]
        answer = beta.get(provider.let_in(location, "ada").removeprefix(f"{HOST}/ns/beta"))
        assert answer.headers["location"] == "/ns/beta/dashboard/jobs"
        assert beta.get("/dashboard/jobs").status_code == 200
        assert parse_qs(beta.post("/dashboard/logout").text.partition("url=")[2].partition('"')[0])[
            "amp;post_logout_redirect_uri"
        ] == [f"{HOST}/ns/beta/dashboard/login"]
        assert not is_in(beta)
    finally:
        router.close()


def test_a_public_client_has_no_secret(browser_of: MakeBrowser, provider: OpenIdProvider) -> None:
    """PKCE alone proves that it is the same who asked."""
    provider.client_secret = None
    browser = browser_of(oidc_client_secret=None)
    assert sign_in(browser, provider).status_code == 303
    assert provider.token_requests[0]["client_id"] == CLIENT_ID


def test_a_provider_may_want_the_secret_in_the_form(
    browser: DashboardClient, provider: OpenIdProvider
) -> None:
    """Where it does not take it in a header."""
    provider.metadata["token_endpoint_auth_methods_supported"] = ["client_secret_post"]
    sign_in(browser, provider)
    assert provider.token_requests[0]["client_secret"] == CLIENT_SECRET


@pytest.mark.parametrize("place", ["https://example.com/", "//example.com", "/jobs", "/dashboard\\x", "x"])
def test_a_sign_in_leads_to_our_pages_alone(
    browser: DashboardClient, provider: OpenIdProvider, place: str
) -> None:
    """Whatever the link to it said."""
    answer = come_back(browser, provider.let_in(start(browser, place), "ada"))
    assert answer.headers["location"] == "/dashboard"


def test_a_long_place_is_left_out_rather_than_the_cookie(
    browser: DashboardClient, provider: OpenIdProvider
) -> None:
    """A browser takes no cookie of more than 4 KiB."""
    answer = come_back(browser, provider.let_in(start(browser, f"/dashboard/jobs?error={'x' * 5000}"), "ada"))
    assert answer.headers["location"] == "/dashboard"


def test_a_sign_in_makes_another_session(browser: DashboardClient, provider: OpenIdProvider) -> None:
    """One that somebody planted before is worth nothing after it."""
    browser.get("/dashboard/login")
    planted = browser.cookies[COOKIE]
    sign_in(browser, provider)
    assert browser.cookies[COOKIE] != planted
    browser.cookies[COOKIE] = planted
    assert not is_in(browser)


def test_the_login_offers_both_ways(browser_of: MakeBrowser, provider: OpenIdProvider) -> None:
    """The provider by its name, with the place that was wanted, and the key as ever."""
    page = browser_of().get("/dashboard/login?next=/dashboard/jobs%3Fstatus%3Dfailed").text
    assert f"Sign in with {urlsplit(provider.issuer).netloc}" in page
    assert f'href="{START}?next=/dashboard/jobs%3Fstatus%3Dfailed"' in page
    assert "Sign in with The Shop" in browser_of(oidc_display_name="The Shop").get("/dashboard/login").text
    assert "Sign in with" not in browser_of(oidc_issuer=None).get("/dashboard/login").text


def test_without_a_provider_there_is_no_such_way(browser_of: MakeBrowser) -> None:
    """Its addresses are not there."""
    browser = browser_of(oidc_issuer=None)
    assert browser.get(START).status_code == 404
    assert browser.get(f"{CALLBACK}?code=x&state=y").status_code == 404


# Roles


@pytest.mark.parametrize(
    ("user", "may_audit"), [("ada", False), ("grace", False), ("olga", True), ("staff", False)]
)
def test_rules_give_roles(
    browser: DashboardClient, provider: OpenIdProvider, user: str, may_audit: bool
) -> None:
    """By a value in a list, in an object, of an address that was looked at, and by a boolean."""
    assert sign_in(browser, provider, user).status_code == 303
    assert (browser.get("/dashboard/audit").status_code == 200) is may_audit


@pytest.mark.parametrize("user", ["bob", "mallory", "nearly"])
def test_whom_no_rule_fits_is_not_let_in(
    browser: DashboardClient, provider: OpenIdProvider, user: str
) -> None:
    """And is told why: not by an address that nobody looked at, by 1 for true, nor by a part of a text."""
    answer = sign_in(browser, provider, user)
    assert_refused(browser, answer)
    assert "no rule of this service gives you a role" in told(answer)


def test_user_info_is_asked_only_for_what_is_missing(
    browser: DashboardClient, provider: OpenIdProvider
) -> None:
    """Olga's roles stand there alone; of a user info about somebody else nothing is taken."""
    assert sign_in(browser, provider, "olga").status_code == 303
    assert provider.asked["/userinfo"] == 1
    provider.user_info_subject = "somebody else"
    answer = sign_in(browser, provider, "olga")
    assert answer.status_code == 403


def test_all_that_matters_in_the_token_is_enough(browser_of: MakeBrowser, provider: OpenIdProvider) -> None:
    """No other question is asked then."""
    browser = browser_of(oidc_roles=rules_of(RULES[:1]))
    sign_in(browser, provider)
    assert provider.asked["/userinfo"] == 0


@pytest.mark.usefixtures("forgetful")
@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, 200),
        ({"oidc_roles": rules_of([{"claim": "groups", "value": "ops", "roles": ["metrics"]}])}, 403),
        ({"oidc_roles": rules_of([{"claim": "groups", "value": "boss", "roles": ["admin"]}])}, 303),
        ({"oidc_issuer": None}, 303),
        ({"oidc_issuer": "https://another.example.com"}, 303),
    ],
    ids=["the same", "fewer", "none", "no provider", "another provider"],
)
def test_a_session_can_do_what_the_rules_of_now_say(
    browser_of: MakeBrowser, provider: OpenIdProvider, changes: dict[str, Any], status: int
) -> None:
    """An API that was started with other rules leaves nobody the powers of before."""
    browser = browser_of()
    sign_in(browser, provider)
    restarted = browser_of(**changes)
    restarted.cookies = browser.cookies
    assert restarted.get("/dashboard/jobs").status_code == status


def test_a_session_of_a_user_ends_when_the_settings_say(
    browser_of: MakeBrowser, provider: OpenIdProvider, database: Database
) -> None:
    """In PostgreSQL as in the cookie."""
    browser = browser_of(oidc_session_seconds=120)
    sign_in(browser, provider)
    with database.autocommit() as connection:
        (seconds,) = connection.exec_driver_sql(
            "SELECT extract(epoch FROM expires_at - created_at)::int FROM dashboard_sessions"
        ).scalars()
    assert seconds == 120
    assert int(browser.cookies[COOKIE].split(".")[1]) <= time.time() + 120


# What is noted


def test_the_audit_log_says_who_it_was(
    browser: DashboardClient, provider: OpenIdProvider, database: Database
) -> None:
    """Name, issuer and subject, of the sign-in and of what the user changes afterwards."""
    provider.users["ida"] = FakeUser("ida-1", {"name": "Ida Rhodes", "realm_access": {"roles": ["auditor"]}})
    sign_in(browser, provider, "ida")
    assert browser.post("/dashboard/keys", name="shop", role="client").status_code == 200
    browser.post("/dashboard/logout")
    with database.autocommit() as connection:
        entries = audit_rows.page(connection, AuditFilter(subject="ida-1"), limit=10)
    assert [entry.action for entry in entries] == ["session.end", "key.create", "session.begin"]
    for entry in entries:
        assert (entry.actor_kind, entry.actor) == ("user", "Ida Rhodes")
        assert (entry.issuer, entry.subject, entry.key_id) == (provider.issuer, "ida-1", None)
    admin = {"Authorization": f"Bearer {Keys(database).create('auditor', 'admin').text}"}
    listed = browser.client.simulate_get("/audit?subject=ida-1", headers=admin).json
    assert [(entry["id"], entry["issuer"]) for entry in listed] == [(one.id, one.issuer) for one in entries]


@pytest.mark.usefixtures("forgetful")
def test_the_page_of_sessions_has_users(browser_of: MakeBrowser, provider: OpenIdProvider) -> None:
    """With their names and issuers, beside keys; ending one signs that browser out."""
    browser, other = browser_of(), browser_of()
    sign_in(browser, provider)
    sign_in(other, provider, "olga")
    page = browser.get("/dashboard/sessions").text
    for text in ("Ada Lovelace", "Olga", urlsplit(provider.issuer).netloc, "olga-1"):
        assert text in page
    (ended,) = re.findall(r'name="session" value="(\d+)"', page)
    browser.post("/dashboard/sessions/end", session=ended)
    assert not is_in(other)
    assert is_in(browser)


def test_the_log_says_who_came_and_no_secret(browser: DashboardClient, provider: OpenIdProvider) -> None:
    """Neither a code, nor a token, nor the secret of the client."""
    with capture_logs() as logs:
        sign_in(browser, provider)
    (line,) = [line for line in logs if line["event"] == "user_signed_in"]
    assert (line["user"], line["subject"], line["issuer"]) == ("Ada Lovelace", ADA.subject, provider.issuer)
    text = str(logs)
    for secret in (
        provider.token_requests[0]["code"],
        provider.token_requests[0]["code_verifier"],
        CLIENT_SECRET,
    ):
        assert secret not in text


def test_a_user_is_a_client_alone(
    browser: DashboardClient, provider: OpenIdProvider, database: Database
) -> None:
    """Who calls themselves as a key is called does not meet that one's unique keys."""
    provider.users["thief"] = FakeUser("thief-1", {"name": "shop", "groups": ["ops"]})
    sign_in(browser, provider, "thief")
    mail = {"payload.to": "a@example.com", "payload.subject": "s", "payload.body": "b"}
    answer = browser.post("/dashboard/create", type="send_email", do="create", unique_key="invoice 7", **mail)
    assert answer.status_code == 303, answer.text
    with database.autocommit() as connection:
        (key,) = connection.exec_driver_sql("SELECT unique_key FROM jobs").scalars()
    assert key == f"thief-1 @ {urlsplit(provider.issuer).netloc}\x1finvoice 7"


# Attempts


def test_failed_ways_back_are_limited_with_wrong_keys(
    browser: DashboardClient, provider: OpenIdProvider
) -> None:
    """Ten of both in a minute; then neither the start, nor the way back, nor a key is looked at."""
    address = provider.let_in(start(browser), "ada")
    for number in range(ATTEMPTS_MAX):
        if number % 2:
            assert DashboardClient(browser.client).get(f"{CALLBACK}?code=x&state=y").status_code == 403
        else:
            assert DashboardClient(browser.client).post("/dashboard/login", key="wrong").status_code == 403
    assert browser.get(START).status_code == 429
    assert browser.post("/dashboard/login", key="wrong").status_code == 429
    answer = come_back(browser, address)
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) <= 60
    assert not provider.token_requests


def test_starts_are_limited(browser: DashboardClient) -> None:
    """Many people may share an address, and not everybody is a person."""
    for _ in range(STARTS_MAX):
        assert browser.get(START).status_code == 303
    answer = browser.get(START)
    assert answer.status_code == 429
    assert "Too many sign-ins began" in told(answer)


# The way out


@pytest.mark.usefixtures("forgetful")
def test_who_logs_out_is_sent_to_the_provider_as_well(
    browser: DashboardClient, provider: OpenIdProvider
) -> None:
    """By a page, not a redirect: no form of ours may lead to another site. The session here ends first."""
    sign_in(browser, provider)
    kept = dict(browser.cookies)
    answer = browser.post("/dashboard/logout")
    assert answer.status_code == 200
    found = re.search(r'<meta http-equiv="refresh" content="0; url=([^"]+)"', answer.text)
    assert found
    place = urlsplit(found[1].replace("&amp;", "&"))
    asked = parse_qs(place.query)
    assert f"{place.scheme}://{place.netloc}{place.path}" == f"{provider.issuer}/logout"
    assert asked["client_id"] == [CLIENT_ID]
    assert asked["post_logout_redirect_uri"] == [f"{HOST}/dashboard/login"]
    assert jwt.decode(asked["id_token_hint"][0], provider.key).claims["sub"] == ADA.subject
    assert "Log out</button>" not in answer.text
    browser.cookies = kept
    assert not is_in(browser)


@pytest.mark.parametrize("how", ["no address", "away"])
def test_a_provider_without_a_way_out_keeps_nobody_in(
    browser_of: MakeBrowser, provider: OpenIdProvider, how: str
) -> None:
    """Google has none; and one that is away is not waited for to end the session here."""
    provider.metadata["end_session_endpoint"] = None
    browser = browser_of()
    sign_in(browser, provider)
    if how == "away":
        provider.away = True
        restarted = browser_of()
        restarted.cookies = browser.cookies
        browser = restarted
    answer = browser.post("/dashboard/logout")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/dashboard/login"
    assert not is_in(browser)


def test_a_user_who_may_not_is_told_so(browser: DashboardClient, provider: OpenIdProvider) -> None:
    """In words for people, who have no key."""
    sign_in(browser, provider, "grace")
    answer = browser.get("/dashboard/keys")
    assert answer.status_code == 403
    assert "you have not the scope keys:manage" in answer.text
    assert "grace@example.com" not in answer.text


def test_the_policy_stays_strict(browser: DashboardClient, provider: OpenIdProvider) -> None:
    """On the way there and back as on every page: no form leads to another site."""
    browser.get("/dashboard/login")
    for answer in (browser.get("/dashboard/login"), browser.get(START), browser.get(CALLBACK)):
        assert "form-action 'self'" in answer.headers["content-security-policy"]
        assert provider.url not in answer.headers["content-security-policy"]
