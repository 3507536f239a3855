"""Notices of what a change did, each kept in a cookie and shown once, on the page that follows."""

from __future__ import annotations

from urllib.parse import quote, unquote

import falcon

__all__ = ["go_to", "say_next", "take_notice"]

COOKIE = "goqueue_notice"
MAX_CHARACTERS = 500


def go_to(request: falcon.Request, response: falcon.Response, place: str, said: str) -> None:
    """Answer a change: go to a page, which shows this text once."""
    response.status = falcon.HTTP_303
    response.location = place
    say_next(request, response, said)


def say_next(request: falcon.Request, response: falcon.Response, said: str) -> None:
    """Let the page that is shown next show this text once."""
    response.set_cookie(
        COOKIE,
        quote(said[:MAX_CHARACTERS], safe=""),
        max_age=60,
        path=f"{request.root_path}/dashboard",
        http_only=True,
        same_site="Lax",
        secure=request.forwarded_scheme == "https",
    )


def take_notice(request: falcon.Request, response: falcon.Response) -> str | None:
    """Return what the last change said, once. Templates show it as text, whoever wrote the cookie."""
    values = request.get_cookie_values(COOKIE)
    if not values:
        return None
    response.unset_cookie(COOKIE, path=f"{request.root_path}/dashboard", same_site="Lax")
    return unquote(values[0])
