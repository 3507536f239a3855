"""What all resources of the API have in common."""

from __future__ import annotations

from goqueue.api.context import Context


class Resource:
    """A resource: its methods answer the requests for its route, with the parts of the application."""

    def __init__(self, context: Context) -> None:
        self._context = context
