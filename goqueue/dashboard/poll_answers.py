"""Answering polls before their pages are asked, where the answer is known."""

from __future__ import annotations

import falcon

from goqueue.dashboard.access.guard import is_dashboard
from goqueue.dashboard.rendering import Renderer

__all__ = ["PollAnswers"]


class PollAnswers:
    """Falcon middleware, behind the guard: whoever comes here has a session, and may look."""

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
        """After a change nobody is shown what was before it."""
        if request.method == "POST" and is_dashboard(request.path):
            self._renderer.forget_polls()
