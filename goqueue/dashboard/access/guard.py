"""The guard before every page: it decides who may look and change, and tells browsers what to refuse."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

import falcon

from goqueue.access.principal import Principal
from goqueue.api.frame.bodies import FORM_FACTOR, read_form
from goqueue.api.frame.security import principal_of
from goqueue.config.settings import Settings
from goqueue.dashboard.access.page_scopes import scopes_of_page
from goqueue.dashboard.access.sessions import Sessions
from goqueue.dashboard.access.signing import COOKIE, HOST_PREFIX, LIFETIME_SECONDS, Session, SessionSigner

__all__ = [
    "FOLDER",
    "LOGIN",
    "SIGN_IN_CALLBACK",
    "DashboardGuard",
    "cookie_name",
    "is_dashboard",
    "is_secure",
    "set_session",
]

#: Where the dashboard is.
FOLDER = "/dashboard"

LOGIN = f"{FOLDER}/login"
LOGOUT = f"{FOLDER}/logout"

#: Where the sign-in at a provider begins, and where the provider sends the browser back to.
SIGN_IN_START = f"{LOGIN}/start"
SIGN_IN_CALLBACK = f"{LOGIN}/callback"

#: Whoever has not said who it is may be here.
OPEN_PLACES = frozenset({LOGIN, SIGN_IN_START, SIGN_IN_CALLBACK})

#: No script, style or request but to ourselves; none written into a page; no page in somebody's frame.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    # With less, a browser leaves the Origin out of our own forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def is_dashboard(path: str) -> bool:
    """Tell whether a path is one of the dashboard's."""
    return path in ("/", FOLDER) or path.startswith(f"{FOLDER}/")


class DashboardGuard:
    """A Falcon middleware before the pages. What is no page passes untouched."""

    def __init__(self, settings: Settings, sessions: Sessions) -> None:
        self._sessions = sessions
        self._needs_key = settings.needs_api_key
        self._read_only = settings.dashboard_read_only
        self._form_max_bytes = FORM_FACTOR * settings.job_max_bytes

    def process_request(self, request: falcon.Request, response: falcon.Response) -> None:
        """Find the session, and refuse what may not be.

        Raises:
            falcon.HTTPSeeOther: to the login.
            falcon.HTTPForbidden: a change that came from elsewhere, or that nobody may make here.
        """
        if not is_dashboard(request.path):
            return
        if request.path.startswith(f"{FOLDER}/static/"):
            return
        session = self._session_of(request, response)
        request.context.session = session
        if request.method == "POST":
            self._check_change(request)
        if self._needs_key and request.path not in OPEN_PLACES:
            principal = self._sessions.principal_of(session) or self._of_home(request)
            if principal is None:
                raise _to_login(request)
            request.context.principal = principal

    def process_resource(
        self, request: falcon.Request, _response: falcon.Response, _resource: object, _params: object
    ) -> None:
        """Refuse what the owner of the session may not, and a change whose form is of no page of it."""
        if not is_dashboard(request.path):
            return
        _expect_allowed(request)
        if request.method != "POST":
            return
        token = request.get_header("X-CSRF-Token") or form_of(request).get("csrf", "")
        if not self._sessions.signer.accepts(request.context.session, token):
            raise falcon.HTTPForbidden(description="this page was open for too long: load it again")

    def process_response(
        self, request: falcon.Request, response: falcon.Response, _resource: object, _succeeded: bool
    ) -> None:
        """Tell the browser what to refuse, also on a page that says what went wrong."""
        if is_dashboard(request.path):
            response.set_headers(HEADERS)

    def _session_of(self, request: falcon.Request, response: falcon.Response) -> Session:
        """The session of the request's cookie, or a new one that answers with a cookie."""
        cookie = request.get_cookie_values(cookie_name(request)) or [""]
        session = self._sessions.signer.read(cookie[0])
        if session is None:
            session = Session.begin()
            set_session(request, response, self._sessions.signer, session)
        return session

    def _of_home(self, request: falcon.Request) -> Principal | None:
        """Whoever signed in to the installation, and may act in all of its namespaces; None: nobody did."""
        home = self._sessions.home
        if home is None:
            return None
        cookie = request.get_cookie_values(cookie_name(request, namespace="")) or [""]
        session = home.signer.read(cookie[0])
        principal = None if session is None else home.principal_of(session)
        return principal if principal is not None and principal.governs_namespaces else None

    def _check_change(self, request: falcon.Request) -> None:
        if request.content_length is None or request.content_length > self._form_max_bytes:
            raise falcon.HTTPContentTooLarge(description=f"a form has at most {self._form_max_bytes} bytes")
        if not _is_same_origin(request):
            raise falcon.HTTPForbidden(description="this request comes from another site")
        if self._read_only and request.path not in (LOGIN, LOGOUT):
            raise falcon.HTTPForbidden(description="this dashboard is read-only")


def _expect_allowed(request: falcon.Request) -> None:
    scopes, principal = scopes_of_page(request.uri_template), principal_of(request)
    allowed = scopes.may_change if request.method == "POST" else scopes.may_read
    if not allowed(principal):
        needed = scopes.changes if request.method == "POST" else scopes.reads
        whose = "your key has" if principal.user is None else "you have"
        missing = [scope for scope in needed or () if not principal.may(scope)]
        raise falcon.HTTPForbidden(description=f"{whose} not the scope {', '.join(missing)}")


def set_session(
    request: falcon.Request,
    response: falcon.Response,
    signer: SessionSigner,
    session: Session,
    *,
    namespace: str | None = None,
) -> None:
    """Give the browser its session; of the namespace of the request, where no other is named."""
    response.set_cookie(
        cookie_name(request, namespace=namespace),
        signer.write(session),
        max_age=LIFETIME_SECONDS,
        path="/",
        http_only=True,
        same_site="Lax",
        secure=is_secure(request),
    )


def is_secure(request: falcon.Request) -> bool:
    """Tell whether the browser came over TLS, to us or to the proxy before us."""
    return request.forwarded_scheme == "https"


def cookie_name(request: falcon.Request, cookie: str = COOKIE, *, namespace: str | None = None) -> str:
    """Name a cookie: behind TLS so that this host alone can write it, and for each namespace differently.

    Args:
        request: whose prefix says the namespace.
        cookie: what it is called otherwise.
        namespace: another one; empty: the one without a prefix.
    """
    name = f"{HOST_PREFIX}{cookie}" if is_secure(request) else cookie
    if namespace is None:
        namespace = request.root_path.rpartition("/")[2]
    return f"{name}_{namespace}" if namespace else name


def form_of(request: falcon.Request) -> dict[str, str]:
    """Read the fields of the request's form, once; of a field that was sent twice, the last."""
    form: dict[str, str] | None = getattr(request.context, "form", None)
    if form is None:
        request.context.form = form = read_form(request)
    return form


def _is_same_origin(request: falcon.Request) -> bool:
    """Whether a change was asked for by a page of ours.

    Every browser of today sends Sec-Fetch-Site, every one since 2017 an Origin; who sends neither is none.
    """
    site = request.get_header("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    origin = request.get_header("Origin")
    return origin is not None and urlsplit(origin).netloc == request.get_header("Host")


def _to_login(request: falcon.Request) -> Exception:
    # A fragment is not replaced by the page of the login: the whole page goes there.
    if request.get_header("HX-Request"):
        return falcon.HTTPUnauthorized(description="log in again", headers={"HX-Redirect": LOGIN})
    # Inside of its namespace, as all addresses are here.
    place = f"{request.path}?{request.query_string}" if request.query_string else request.path
    wanted = f"?next={quote(place, safe='')}" if request.method == "GET" else ""
    return falcon.HTTPSeeOther(f"{LOGIN}{wanted}")
