"""What stands before the dashboard: keys, sessions, tokens, origins, read-only, policies."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import structlog
from falcon import testing
from pydantic import SecretStr
from structlog.testing import capture_logs

from goqueue.access.principal import Principal
from goqueue.access.scopes import Scope
from goqueue.api.app import create_app
from goqueue.config.settings import Settings
from goqueue.dashboard.access import session_rows as session_store
from goqueue.dashboard.access import sessions as dashboard_sessions
from goqueue.dashboard.access.attempts import ATTEMPTS_MAX
from goqueue.dashboard.access.guard import CONTENT_SECURITY_POLICY
from goqueue.dashboard.access.sessions import Sessions
from goqueue.dashboard.access.signing import COOKIE, LIFETIME_SECONDS, SECURE_COOKIE, Session, SessionSigner
from goqueue.dashboard.pages import login
from goqueue.dashboard.site import DASHBOARD
from goqueue.db.database import Database
from goqueue.engine.runway.runway import Runway
from tests.support.dashboard.client import DashboardClient, form_secret
from tests.support.dashboard.pages import addresses, form_routes, page_routes, routes
from tests.support.factories import JobFactory
from tests.support.shared_database import emptied_database, module_settings

settings = module_settings
database = emptied_database

KEY = "the key of the tests"
KEY_HASH = hashlib.sha256(KEY.encode()).hexdigest()

#: Places that nobody has to be, for the routes with parameters.
NOWHERE = {
    name: ["1"]
    for name in (
        "jobs",
        "operations",
        "workers",
        "queues",
        "types",
        "schedules",
        "failures",
        "editable",
        "keys",
        "namespaces",
        "webhooks",
        "deliveries",
    )
}

FORM = {"Content-Type": "application/x-www-form-urlencoded"}

MakeBrowser = Callable[..., DashboardClient]


@pytest.fixture
def browser_of(settings: Settings, database: Database, runway: Runway) -> MakeBrowser:
    """Makes browsers on a dashboard with other settings."""

    def make(**changes: Any) -> DashboardClient:
        changed = settings.model_copy(update=changes)
        app = create_app(changed, database=database, runway=runway, site=DASHBOARD)
        return DashboardClient(testing.TestClient(app))

    return make


@pytest.fixture
def locked(browser_of: MakeBrowser) -> DashboardClient:
    """A browser that knows no key, where one is needed."""
    return browser_of(api_keys=(KEY_HASH,))


@pytest.fixture
def inside(locked: DashboardClient) -> DashboardClient:
    """The same after its login."""
    assert locked.post("/dashboard/login", key=KEY).status_code == 303
    return locked


def address(template: str) -> str:
    """An address of a route."""
    if template.endswith("/files/{name}"):
        return "/dashboard/jobs/1/files/payload.json"
    return addresses(template, NOWHERE)[0]


GETS = [route.template for route in routes() if "GET" in route.methods and "/static/" not in route.template]

#: What a form may be sent to without a key: the login itself.
POSTS = [template for template in form_routes() if template not in {"/dashboard/login", "/dashboard/logout"}]


def test_there_are_pages_and_forms() -> None:
    """The tests of this module have something to walk over."""
    assert len(page_routes()) > 8
    assert len(POSTS) > 8


# Without a key


@pytest.mark.parametrize("template", [one for one in GETS if not one.startswith("/dashboard/login")])
def test_without_a_key_every_page_leads_to_the_login(locked: DashboardClient, template: str) -> None:
    """No page, chart or file is shown; afterwards the browser is where it wanted to be."""
    wanted = address(template)
    result = locked.get(wanted)
    assert result.status_code == 303
    assert result.headers["location"] == f"/dashboard/login?{urlencode({'next': wanted}, safe='')}"
    assert result.text == "" or "Log in" not in result.text


@pytest.mark.parametrize("template", POSTS)
def test_without_a_key_every_form_leads_to_the_login(locked: DashboardClient, template: str) -> None:
    """Nothing is done, even with the right token."""
    result = locked.post(address(template), action="delete")
    assert result.status_code == 303
    assert result.headers["location"] == "/dashboard/login"


def test_a_poll_is_sent_to_the_login_as_a_whole_page(locked: DashboardClient) -> None:
    """The login is not shown inside of the page that asked."""
    result = locked.live("/dashboard/jobs")
    assert result.status_code == 401
    assert result.headers["hx-redirect"] == "/dashboard/login"


@pytest.mark.parametrize("template", ["/dashboard", *page_routes()])
def test_a_slash_too_many_leads_to_the_page(browser_of: MakeBrowser, template: str) -> None:
    """Who ends an address of the dashboard with a slash gets to the page, with what was asked of it."""
    place = address(template).partition("?")[0]
    answer = browser_of().get(f"{place}/?range=1h")
    assert answer.status_code == 302
    assert answer.headers["Location"] == f"{place}?range=1h"


def test_a_slash_too_many_leads_nowhere_else(browser_of: MakeBrowser) -> None:
    """What is there with its slash is shown, an unknown page stays unknown, and no other site is named."""
    browser = browser_of()
    assert browser.get("/").headers["Location"] == "/dashboard"
    place = browser.get("/dashboard/nothing/")
    assert browser.get(place.headers["Location"]).status_code == 404
    for crooked in ("/dashboard//evil.example//", "/dashboard/%5Cevil.example/"):
        location = browser.get(crooked).headers["Location"]
        assert location.startswith("/dashboard/")
        assert "\\" not in location


def test_the_api_takes_no_session(inside: DashboardClient) -> None:
    """The cookie opens the dashboard alone, so a page of another site cannot use it on the API."""
    assert inside.get("/dashboard").status_code == 200
    assert inside.get("/jobs").status_code == 401


def test_what_is_served_to_all_needs_no_key(locked: DashboardClient) -> None:
    """The files of the login page."""
    for place in re.findall(r'(?:href|src)="(/dashboard/static/[^"]+)"', locked.get("/dashboard/login").text):
        assert locked.get(place).status_code == 200


# The login


def test_the_right_key_opens_and_leads_back(locked: DashboardClient) -> None:
    """The browser goes where it wanted to be, with a cookie that no script reads and no other site sends."""
    result = locked.post("/dashboard/login", key=f" {KEY} ", next="/dashboard/jobs?status=failed")
    assert result.status_code == 303
    assert result.headers["location"] == "/dashboard/jobs?status=failed"
    cookie = result.cookies[COOKIE]
    assert cookie.http_only
    assert cookie.same_site == "Lax"
    assert cookie.path == "/"
    assert cookie.max_age == LIFETIME_SECONDS
    assert not cookie.secure
    assert locked.get("/dashboard/jobs").status_code == 200


def test_behind_tls_the_cookie_is_of_this_host_alone(browser_of: MakeBrowser) -> None:
    """A proxy says how it was asked; no other host of the domain can plant a cookie with this prefix."""
    browser = browser_of()
    result = browser.get("/dashboard/login", X_Forwarded_Proto="https")
    assert COOKIE not in result.cookies
    cookie = result.cookies[SECURE_COOKIE]
    assert SECURE_COOKIE.startswith("__Host-")
    assert (cookie.secure, cookie.http_only, cookie.path) == (True, True, "/")
    assert not cookie.domain
    again = browser.get("/dashboard/login", X_Forwarded_Proto="https")
    assert SECURE_COOKIE not in again.cookies


def test_a_cookie_without_the_prefix_is_worth_nothing_behind_tls(inside: DashboardClient) -> None:
    """A neighbour of the domain may plant such a one."""
    assert inside.get("/dashboard").status_code == 200
    assert inside.get("/dashboard", X_Forwarded_Proto="https").status_code == 303


def test_a_wrong_key_is_told(locked: DashboardClient) -> None:
    """The form is shown again, with 403, and nothing is open."""
    result = locked.post("/dashboard/login", key="wrong", next="/dashboard/jobs")
    assert result.status_code == 403
    assert "does not know that key" in result.text
    assert 'value="/dashboard/jobs"' in result.text
    assert locked.get("/dashboard").status_code == 303


def test_the_hash_of_a_key_is_no_key(locked: DashboardClient) -> None:
    """Who reads the settings is not in."""
    assert locked.post("/dashboard/login", key=KEY_HASH).status_code == 403


def test_a_login_makes_another_session(locked: DashboardClient) -> None:
    """A session that somebody planted before the login is worth nothing after it."""
    planted = (locked.token(), locked.cookies[COOKIE])[1]
    locked.post("/dashboard/login", key=KEY)
    assert locked.cookies[COOKIE] != planted
    locked.cookies[COOKIE] = planted
    assert locked.get("/dashboard").status_code == 303


@pytest.mark.parametrize(
    "place",
    [
        "https://example.com/dashboard",
        "//example.com/dashboard",
        "/\\example.com",
        "/dashboard\\..\\evil",
        "javascript:alert(1)",
        "/jobs",
        "/dashboard/\r\nSet-Cookie: a=b",
        "dashboard",
        "",
    ],
)
def test_the_login_leads_to_our_pages_alone(locked: DashboardClient, place: str) -> None:
    """A link to the login cannot send anybody elsewhere."""
    form = locked.get(f"/dashboard/login?{urlencode({'next': place})}").text
    assert 'name="next" value="/dashboard"' in form
    result = locked.post("/dashboard/login", key=KEY, next=place)
    assert result.headers["location"] == "/dashboard"


def test_who_logs_out_is_out(inside: DashboardClient) -> None:
    """The browser is sent to the login, and its session knows no key."""
    result = inside.post("/dashboard/logout")
    assert result.status_code == 303
    assert result.headers["location"] == "/dashboard/login"
    assert "You are logged out." in inside.get("/dashboard/login").text
    assert inside.get("/dashboard").status_code == 303


def test_where_there_are_no_keys_nobody_logs_in_or_out(browser_of: MakeBrowser) -> None:
    """There is no button for what there is not."""
    page = browser_of().get("/dashboard").text
    assert "Log out" not in page


# Sessions


@pytest.fixture
def sessions(settings: Settings, database: Database) -> Sessions:
    """The sessions of the locked dashboard."""
    return Sessions(settings.model_copy(update={"api_keys": (KEY_HASH,)}), database)


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process remembers what it read of a session: a second of it is over."""
    monkeypatch.setattr(dashboard_sessions, "REMEMBERED_SECONDS", 0.0)


def signed_in(sessions: Sessions) -> Session:
    """A session that showed the key."""
    return sessions.sign_in(
        Principal("", frozenset(Scope), key_hash=KEY_HASH), address="10.0.0.9", user_agent="a browser"
    )


def test_a_signed_in_session_is_in(locked: DashboardClient, sessions: Sessions) -> None:
    """The tests below fail for what they change, and for nothing else."""
    locked.cookies[COOKIE] = sessions.signer.write(signed_in(sessions))
    assert locked.get("/dashboard").status_code == 200


@pytest.mark.parametrize("change", ["extended", "unsigned", "cut", "not text", "half a pair", "empty"])
def test_a_forged_session_is_none(locked: DashboardClient, sessions: Sessions, change: str) -> None:
    """Whatever is changed in a cookie, its signature does not fit any more."""
    name, until, signature = sessions.signer.write(signed_in(sessions)).split(".")
    locked.cookies[COOKIE] = {
        "extended": f"{name}.{int(until) + 9}.{signature}",
        "unsigned": f"{name}.{until}.",
        "cut": f"{name}.{until}",
        "not text": "\xff\xfe.9.\xff",
        "half a pair": "\udcff.9.\udcff",
        "empty": "....",
    }[change]
    assert locked.get("/dashboard").status_code == 303


def test_a_signature_alone_opens_nothing(locked: DashboardClient, sessions: Sessions) -> None:
    """Who can sign, and whose session showed no key, is not in: the row is the session."""
    locked.cookies[COOKIE] = sessions.signer.write(Session.begin())
    assert locked.get("/dashboard").status_code == 303


def test_nothing_that_the_settings_hold_signs(
    sessions: Sessions, settings: Settings, database: Database
) -> None:
    """Who reads the output of `goqueue check`, or the whole environment, cannot make a token of a form."""
    session = Session.begin()
    other = SessionSigner(
        settings.model_copy(update={"session_secret": SecretStr(str(settings.masked()))}), database
    )
    assert form_secret(other.token(session)) != form_secret(sessions.signer.token(session))
    with database.autocommit() as connection:
        (secret,) = connection.exec_driver_sql("SELECT value FROM service_secrets").scalars()
    assert re.fullmatch("[0-9a-f]{64}", secret)
    assert secret not in str(settings.masked())


def test_all_processes_make_one_secret(settings: Settings, database: Database) -> None:
    """Those that come first at the same time sign alike."""
    session = Session("somebody", expires_at=9)
    with ThreadPoolExecutor(8) as pool:
        made = pool.map(lambda _: form_secret(SessionSigner(settings, database).token(session)), range(16))
        tokens = set(made)
    assert len(tokens) == 1


def test_an_old_session_is_over(locked: DashboardClient, sessions: Sessions) -> None:
    """However it is signed."""
    over = Session("somebody", expires_at=int(time.time()) - 1)
    locked.cookies[COOKIE] = sessions.signer.write(over)
    assert locked.get("/dashboard").status_code == 303


def test_another_key_ends_every_session(inside: DashboardClient, browser_of: MakeBrowser) -> None:
    """A key that leaked is taken away, and whoever logged in by it is out; others stay."""
    other = browser_of(api_keys=(hashlib.sha256(b"another").hexdigest(),))
    other.cookies = inside.cookies
    assert other.get("/dashboard").status_code == 303
    more = browser_of(api_keys=(hashlib.sha256(b"another").hexdigest(), f"web:{KEY_HASH}"))
    more.cookies = inside.cookies
    assert more.get("/dashboard").status_code == 200


@pytest.mark.usefixtures("forgetful")
def test_a_session_that_was_logged_out_opens_nothing(
    inside: DashboardClient, browser_of: MakeBrowser
) -> None:
    """A copy of its cookie is worth nothing, with no process of the service."""
    copied = dict(inside.cookies)
    inside.post("/dashboard/logout")
    for browser in (inside, browser_of(api_keys=(KEY_HASH,))):
        browser.cookies = dict(copied)
        assert browser.get("/dashboard").status_code == 303


@pytest.mark.usefixtures("forgetful")
def test_sessions_are_listed_and_ended(
    inside: DashboardClient, sessions: Sessions, browser_of: MakeBrowser
) -> None:
    """The page names each browser by its address and key; one that is ended has to log in again."""
    other = browser_of(api_keys=(KEY_HASH,))
    other.cookies[COOKIE] = sessions.signer.write(signed_in(sessions))
    assert other.get("/dashboard").status_code == 200
    page = inside.get("/dashboard/sessions").text
    assert "10.0.0.9" in page
    assert f"{KEY_HASH[:8]}…" in page
    assert "this one" in page
    (ended,) = re.findall(r'name="session" value="(\d+)"', page)
    assert inside.post("/dashboard/sessions/end", session=ended).status_code == 303
    assert "The session has ended." in inside.get("/dashboard/sessions").text
    assert other.get("/dashboard").status_code == 303
    assert inside.get("/dashboard").status_code == 200


@pytest.mark.usefixtures("forgetful")
def test_all_other_sessions_are_ended_at_once(inside: DashboardClient, sessions: Sessions) -> None:
    """After a key leaked: only who asks stays in."""
    others = [signed_in(sessions) for _ in range(3)]
    inside.post("/dashboard/sessions/end", session="others")
    assert not any(sessions.principal_of(session) for session in others)
    assert inside.get("/dashboard").status_code == 200


@pytest.mark.parametrize("wrong", ["", "0", "-1", "x", str(2**70), "1 OR 1=1"])
def test_no_other_word_ends_a_session(inside: DashboardClient, sessions: Sessions, wrong: str) -> None:
    """What names no session ends none, and says so."""
    kept = signed_in(sessions)
    assert inside.post("/dashboard/sessions/end", session=wrong).status_code == 303
    assert "has ended already" in inside.get("/dashboard/sessions").text
    assert sessions.principal_of(kept)


def test_the_cleaner_forgets_sessions_that_are_over(database: Database, sessions: Sessions) -> None:
    """Their rows go; those that are good stay."""
    over, good = signed_in(sessions), signed_in(sessions)
    with database.autocommit() as connection:
        connection.exec_driver_sql(
            "UPDATE dashboard_sessions SET expires_at = now() WHERE name_hash = %s", (over.name_hash,)
        )
        assert session_store.forget(connection, limit=10) == 1
    assert [one.name_hash for one in sessions.signed_in(10)] == [good.name_hash]


# Attempts


@pytest.fixture
def _sign_ins_are_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A logger of the login that keeps no configuration which an earlier test of this process has left."""
    monkeypatch.setattr(login, "log", structlog.get_logger(login.__name__))


@pytest.mark.usefixtures("_sign_ins_are_captured")
def test_an_address_that_tries_too_many_keys_has_to_wait(
    locked: DashboardClient,
) -> None:
    """After ten wrong keys a minute even the right one is not looked at; each refusal is one log line."""
    with capture_logs() as logs:
        for number in range(ATTEMPTS_MAX):
            assert locked.post("/dashboard/login", key=f"wrong {number}").status_code == 403
        result = locked.post("/dashboard/login", key=KEY)
    assert result.status_code == 429
    assert 1 <= int(result.headers["retry-after"]) <= 60
    assert "Too many wrong keys" in result.text
    assert [line["event"] for line in logs] == ["sign_in_refused"] * ATTEMPTS_MAX + ["sign_in_limited"]
    assert all(line["address"] for line in logs)
    assert "wrong 3" not in str(logs)


@pytest.mark.usefixtures("_sign_ins_are_captured")
def test_who_signs_in_is_logged_by_the_name_of_the_key(browser_of: MakeBrowser) -> None:
    """An operator sees who came and went, and no key."""
    browser = browser_of(api_keys=(f"ada:{KEY_HASH}",))
    with capture_logs() as logs:
        browser.post("/dashboard/login", key=KEY)
        browser.post("/dashboard/logout")
    events = {line["event"]: line for line in logs}
    assert events["signed_in"]["key"] == "ada"
    assert "signed_out" in events
    assert KEY not in str(logs)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"HX-Target": "live"}, None),
        ({"HX-Target": "live", "HX-Request": "true"}, None),
        ({"Content-Type": "application/json"}, "[" * 100_000),
        ({"Content-Type": "application/json"}, '{"key": ' * 50_000),
        ({"Content-Type": "application/json"}, '{"key": "\\ud800"}'),
        (FORM, "key=%ED%A0%80"),
        (FORM, "key=%FF%FE&next=%00"),
        (FORM, "csrf=%ED%A0%80&key=x"),
        ({"Content-Type": "multipart/form-data"}, "x"),
        ({"Content-Type": "\xff"}, "x"),
        ({"Cookie": "goqueue_session=\xff.\xff; goqueue_notice=%FF%ED%A0%80"}, None),
    ],
    ids=str,
)
def test_the_login_answers_whatever_a_stranger_sends(
    locked: DashboardClient, headers: dict[str, str], body: str | None
) -> None:
    """Without a key nothing is a 500, with the token of the form or without."""
    for token in (locked.token(), "wrong", "\xff"):
        given = {"X-CSRF-Token": token, "Sec-Fetch-Site": "same-origin"} | headers
        method = "GET" if body is None else "POST"
        result = locked.client.simulate_request(
            method, "/dashboard/login", headers=given, body=body, cookies=locked.cookies
        )
        assert result.status_code < 500, result.text


# Changes


def send(browser: DashboardClient, place: str, headers: dict[str, str], **fields: str) -> int:
    """Send a form with exactly these headers; the status."""
    return int(
        browser.client.simulate_post(
            place, body=urlencode(fields), headers=FORM | headers, cookies=browser.cookies
        ).status_code
    )


OURS = {"Sec-Fetch-Site": "same-origin"}

#: Where a form can be sent to that does something everywhere: nothing comes of it.
HARMLESS = "/dashboard/logout"


@pytest.mark.parametrize("template", form_routes())
def test_a_form_without_its_token_is_refused(browser_of: MakeBrowser, template: str) -> None:
    """Every one: there is no way around the guard."""
    browser = browser_of()
    browser.token()
    assert send(browser, address(template), OURS, action="delete") == 403
    assert send(browser, address(template), OURS, action="delete", csrf="0" * 128) == 403


def test_a_token_of_another_session_is_refused(browser_of: MakeBrowser) -> None:
    """A token is of one session, also among those that all know the key."""
    browser, other = browser_of(), browser_of()
    token = other.token()
    assert browser.token() != token
    assert send(browser, HARMLESS, OURS, csrf=token) == 403
    assert send(browser, HARMLESS, OURS, csrf=browser.token()) == 303


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://falconframework.org"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://falconframework.org.evil.example"},
        {},
    ],
    ids=str,
)
def test_a_form_of_another_site_is_refused(browser_of: MakeBrowser, headers: dict[str, str]) -> None:
    """Even with the right token; and who does not say where a form is from is no browser."""
    browser = browser_of()
    assert send(browser, HARMLESS, headers, csrf=browser.token()) == 403


@pytest.mark.parametrize("headers", [OURS, {"Origin": "http://falconframework.org"}], ids=str)
def test_a_form_of_ours_is_taken(browser_of: MakeBrowser, headers: dict[str, str]) -> None:
    """By either header."""
    browser = browser_of()
    assert send(browser, HARMLESS, headers, csrf=browser.token()) == 303


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "multipart/form-data; boundary=x"])
def test_what_is_no_form_is_refused(browser_of: MakeBrowser, kind: str) -> None:
    """A body of another kind brings no token."""
    browser = browser_of()
    browser.token()
    result = browser.client.simulate_post(
        HARMLESS, body='["csrf"]', headers=OURS | {"Content-Type": kind}, cookies=browser.cookies
    )
    assert result.status_code in {400, 403, 415}


@pytest.mark.parametrize("template", POSTS)
def test_a_read_only_dashboard_changes_nothing(browser_of: MakeBrowser, template: str) -> None:
    """Every form is refused, with its token and all."""
    result = browser_of(dashboard_read_only=True).post(address(template), action="delete")
    assert result.status_code == 403
    assert "read-only" in result.text


@pytest.mark.parametrize("template", page_routes())
def test_a_read_only_dashboard_shows_no_form(browser_of: MakeBrowser, template: str) -> None:
    """There is no button that would only say no."""
    page = browser_of(dashboard_read_only=True).get(address(template)).text
    assert re.findall(r"<form[^>]*method=.post[^>]*>", page, re.IGNORECASE) == []


def test_a_read_only_dashboard_lets_in_and_out(browser_of: MakeBrowser) -> None:
    """The login and the logout change nothing of the queue."""
    browser = browser_of(dashboard_read_only=True, api_keys=(KEY_HASH,))
    assert browser.post("/dashboard/login", key=KEY).status_code == 303
    assert browser.get("/dashboard").status_code == 200
    assert browser.post("/dashboard/logout").status_code == 303


def test_a_dashboard_can_be_left_out(settings: Settings, database: Database, runway: Runway) -> None:
    """Without a site the application has none of its routes."""
    client = testing.TestClient(create_app(settings, database=database, runway=runway))
    assert client.simulate_get("/dashboard").status_code == 404


# What the browser is told


@pytest.mark.parametrize(
    "place", ["/", "/dashboard", "/dashboard/nosuch", "/dashboard/jobs/9", "/dashboard/static/nosuch.js"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
def test_every_answer_has_the_policy(browser_of: MakeBrowser, method: str, place: str) -> None:
    """Pages, redirects, refusals and what is not there."""
    result = browser_of().client.simulate_request(method, place)
    assert result.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert result.headers["x-content-type-options"] == "nosniff"
    assert result.headers["referrer-policy"] == "same-origin"
    assert result.headers["cross-origin-opener-policy"] == "same-origin"


def test_an_unexpected_error_has_it_too(browser_of: MakeBrowser, monkeypatch: pytest.MonkeyPatch) -> None:
    """And says nothing of what went wrong."""
    browser = browser_of()
    monkeypatch.setattr("goqueue.dashboard.pages.login.place_of", lambda _: 1 / 0)
    result = browser.get("/dashboard/login")
    assert result.status_code == 500
    assert result.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert "ZeroDivision" not in result.text
    assert "<h1>Internal Server Error</h1>" in result.text


def test_the_policy_forbids_all_but_ours() -> None:
    """Nothing from elsewhere, nothing inline, no frame, no other target of a form."""
    rules = dict(rule.split(" ", 1) for rule in CONTENT_SECURITY_POLICY.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["frame-ancestors"] == "'none'"
    assert rules["base-uri"] == "'none'"
    assert set(rules.values()) == {"'none'", "'self'"}


TEMPLATES = sorted((Path(__file__).parents[2] / "goqueue" / "dashboard" / "templates").glob("**/*.html"))


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: str(path.name))
def test_no_template_has_anything_inline(template: Path) -> None:
    """No script, style or handler in a page, nothing that is not escaped."""
    text = template.read_text()
    assert re.findall(r"<script(?![^>]*\bsrc=)", text) == []
    assert re.findall(r"<style\b|\sstyle=|\son[a-z]+=|javascript:|\bhx-on", text) == []
    assert re.findall(r"\|\s*safe\b|autoescape false|Markup\(", text) == []


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: str(path.name))
def test_every_form_that_changes_something_has_its_token(template: Path) -> None:
    """As many tokens as forms that are posted, wherever they come from."""
    text = template.read_text()
    forms = re.findall(r"<form[^>]*method=\"post\".*?</form>", text, re.DOTALL)
    assert len(forms) == len(re.findall(r"method=\"post\"", text))
    assert [form for form in forms if "csrf" not in form] == []


# Files


def test_files_are_kept_for_ever_under_names_that_change(browser_of: MakeBrowser) -> None:
    """Every file of the page, by the name that its content gave it."""
    browser = browser_of()
    places = set(re.findall(r'(?:href|src)="(/dashboard/static/[^"]+)"', browser.get("/dashboard").text))
    assert len(places) >= 7
    for place in places:
        assert re.search(r"\?v=[0-9a-f]{12}$", place)
        result = browser.get(place)
        assert result.status_code == 200
        assert result.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert COOKIE not in result.cookies


@pytest.mark.parametrize(
    "name", ["../guard.py", "..%2fguard.py", "vendor/../dashboard.css", "vendor/", "nosuch"]
)
def test_nothing_else_is_a_file(browser_of: MakeBrowser, name: str) -> None:
    """Files are known by their names; no name leads out of their folder."""
    assert browser_of().get(f"/dashboard/static/{name}").status_code == 404


def test_charts_are_json_that_is_asked_for_again(browser_of: MakeBrowser, database: Database) -> None:
    """What charts are drawn from is as private as the pages are."""
    JobFactory(database)("completed")
    browser = browser_of()
    places = {place for template in page_routes() for place in _charts(browser.get(address(template)).text)}
    assert places
    for place in places:
        result = browser.get(place)
        assert result.status_code == 200, place
        assert result.headers["cache-control"] == "private, no-cache"
        assert json.loads(result.text)


def _charts(page: str) -> list[str]:
    return [unescape(place) for place in re.findall(r'data-source="([^"]+)"', page)]
