"""Turning values into pages: the Jinja environment, and answers that cost nothing while nothing changed."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any

import falcon
import jinja2
import orjson
from falcon import uri

from goqueue.access.principal import Principal
from goqueue.access.scopes import Scope
from goqueue.api.frame.security import principal_of
from goqueue.config.labels import version_of, without_version
from goqueue.config.settings import Settings
from goqueue.dashboard.access.guard import is_dashboard
from goqueue.dashboard.access.page_scopes import scopes_of_page
from goqueue.dashboard.access.signing import SessionSigner
from goqueue.dashboard.access.withholding import without_contents
from goqueue.dashboard.namespace_choices import NamespaceChoice
from goqueue.dashboard.notices import take_notice
from goqueue.dashboard.parts import presentation
from goqueue.dashboard.parts.errors import failure_words
from goqueue.dashboard.polls import LIVE, PollAnswer, SharedPolls, is_poll

__all__ = ["PollMiddleware", "Renderer"]

HTML = "text/html; charset=utf-8"

#: Files have exact names.
STATIC = "/dashboard/static/"

#: What a page answers that is not there: an empty name is none, or is wrong.
_NO_PAGE = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.BAD_REQUEST})

#: An attribute whose value is an address of the dashboard. A quotation mark in a text of somebody else is
#: written as a reference, so such a text is none.
_LINK = re.compile(r'\b(href|action|src|hx-get|data-source|data-copy-from)="(?=/dashboard)')

NAVIGATION = (
    ("/dashboard", "Overview"),
    ("/dashboard/jobs", "Jobs"),
    ("/dashboard/queues", "Queues"),
    ("/dashboard/types", "Types"),
    ("/dashboard/failures", "Failures"),
    ("/dashboard/schedules", "Schedules"),
    ("/dashboard/workers", "Workers"),
    ("/dashboard/create", "Create"),
)


class Renderer:
    """The renderer of all pages. Everything that a template shows is text, unless it was made as markup."""

    def __init__(
        self,
        settings: Settings,
        signer: SessionSigner,
        asset: Callable[[str], str],
        namespaces: Callable[[Principal], Sequence[NamespaceChoice]],
    ) -> None:
        self._signer = signer
        self._namespaces = namespaces
        self._polls = SharedPolls()
        self._read_only = settings.dashboard_read_only
        self._environment = jinja2.Environment(
            loader=jinja2.PackageLoader("goqueue.dashboard"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters |= {name: getattr(presentation, name) for name in presentation.__all__}
        self._environment.filters["failure_words"] = failure_words
        self._environment.filters["version_of"] = version_of
        self._environment.filters["without_version"] = without_version
        self._environment.globals |= {
            "asset": asset,
            "has_login": settings.needs_api_key,
            # Users sign in to the installation, whose admins enter its namespaces.
            "provider": None if settings.database_namespace else settings.oidc_provider_name,
        }

    def page(
        self, request: falcon.Request, response: falcon.Response, template: str, /, **values: Any
    ) -> None:
        """Answer with a page, or, where a poll asks, with its live part alone; 304 where that is known."""
        page = self._environment.get_template(template)
        # A page that does not change by itself has no live part: who asks for one gets the page.
        poll = is_poll(request) and LIVE in page.blocks
        if not principal_of(request).reads_contents:
            values = without_contents(values)
        values |= {
            "csrf": self._polls.stand_in,
            "path": request.path,
            "base": request.root_path,
            **self._allowed(request),
            "query": request.query_string,
            "notice": None if poll else take_notice(request, response),
        }
        if poll:
            answer = self._answer(request, "".join(page.blocks[LIVE](page.new_context(values))))
            if response.status == falcon.HTTP_200:
                self._polls.keep(request, answer)
            self._answer_html(request, response, answer)
            return
        self._answer_html(request, response, self._answer(request, page.render(values)))

    def _allowed(self, request: falcon.Request) -> dict[str, Any]:
        """What the key of the session allows, for templates."""
        principal = principal_of(request)
        pages = [page for page in NAVIGATION if scopes_of_page(page[0]).may_read(principal)]
        scopes = scopes_of_page(request.uri_template)
        read_only = self._read_only or not scopes.may_change(principal)
        return {
            "navigation": pages,
            "read_only": read_only,
            "says_read_only": self._read_only or (read_only and scopes.changes is not None),
            "reads_contents": principal.reads_contents,
            "manages_keys": principal.may(Scope.KEYS_MANAGE),
            "sees_audit": principal.may(Scope.ADMIN),
            "is_signed_in": principal.is_known,
            "namespaces": self._namespaces(principal),
            "manages_namespaces": principal.governs_namespaces,
            "sees_webhooks": principal.may(Scope.EVENTS_READ),
        }

    def answers_poll(self, request: falcon.Request, response: falcon.Response) -> bool:
        """Answer with the live part that was made for somebody else just now, if one was."""
        answer = self._polls.find(request) if is_poll(request) else None
        if answer is None:
            return False
        self._answer_html(request, response, answer)
        return True

    def _answer(self, request: falcon.Request, text: str) -> PollAnswer:
        return PollAnswer.of(_below(request.root_path, text).encode(), self._polls.stand_in)

    def forget_polls(self) -> None:
        """Drop the answers to polls that were made before a change."""
        self._polls.forget()

    def _answer_html(self, request: falcon.Request, response: falcon.Response, answer: PollAnswer) -> None:
        session = request.context.session
        response.content_type = HTML
        # The forms are those of this session alone.
        if not _is_known(request, response, f"{answer.tag}{self._signer.tag(session)}"):
            response.data = self._polls.body_for(answer, self._signer.token(session))

    def data(self, request: falcon.Request, response: falcon.Response, document: Any) -> None:
        """Answer with JSON that a chart is drawn from; 304 where it is known."""
        response.content_type = falcon.MEDIA_JSON
        _answer(request, response, orjson.dumps(document))

    def problem(
        self, request: falcon.Request, response: falcon.Response, status: int, title: str, detail: str
    ) -> None:
        """Answer with a page that says what went wrong, or lead to the page without a slash too many."""
        response.content_type = HTML
        if status in _NO_PAGE and _has_slash_too_many(request):
            # Not for ever: names may end with a slash, and one that does may come.
            response.status = falcon.HTTP_302
            query = f"?{request.query_string}" if request.query_string else ""
            response.set_header("Location", f"{uri.encode(request.path.rstrip('/'))}{query}")
            return
        page = self._environment.get_template("problem.html")
        session = getattr(request.context, "session", None)
        text = page.render(
            csrf="" if session is None else self._signer.token(session),
            path=request.path,
            base=request.root_path,
            **self._allowed(request),
            query="",
            notice=None,
            status=status,
            title=title,
            detail=detail,
        )
        response.text = _below(request.root_path, text)


class PollMiddleware:
    """A Falcon middleware that answers polls before their pages are asked, where the answer is known.

    It stands behind the guard: whoever comes here has a session, and may look.
    """

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer

    def process_resource(
        self, request: falcon.Request, response: falcon.Response, _resource: object, _params: object
    ) -> None:
        """Answer a poll whose answer somebody else got just now."""
        if is_dashboard(request.path) and self._renderer.answers_poll(request, response):
            response.complete = True

    def process_response(
        self, request: falcon.Request, _response: falcon.Response, _resource: object, _succeeded: bool
    ) -> None:
        """Forget what was before a change, so that nobody is shown it."""
        if request.method == "POST" and is_dashboard(request.path):
            self._renderer.forget_polls()


def _below(root_path: str, text: str) -> str:
    """A page whose links lead to below the path that its application is at.

    Pages and templates name addresses as their own application knows them. Where that is one of several,
    under a prefix, it is added here, once for all of them.
    """
    return _LINK.sub(rf'\1="{root_path}', text) if root_path else text


def _has_slash_too_many(request: falcon.Request) -> bool:
    is_file = request.path.startswith(STATIC)
    return request.method == "GET" and request.path.endswith("/") and not is_file


def _answer(request: falcon.Request, response: falcon.Response, body: bytes) -> None:
    if not _is_known(request, response, PollAnswer.of(body).tag):
        response.data = body


def _is_known(request: falcon.Request, response: falcon.Response, tag: str) -> bool:
    """Whether the browser has what this tag is of, and is told so."""
    # Weak: a proxy may compress it, and it stays the same page.
    response.set_header("ETag", f'W/"{tag}"')
    response.set_header("Cache-Control", "private, no-cache")
    response.set_header("Vary", "HX-Request, HX-Target, Cookie")
    if tag in (request.get_header("If-None-Match") or ""):
        response.status = falcon.HTTP_304
        # Nothing is sent, so it has no type.
        response.delete_header("Content-Type")
        return True
    return False
