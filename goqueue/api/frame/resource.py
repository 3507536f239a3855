"""The base that all resources of the API share."""

from __future__ import annotations

from goqueue.instance import GoQueue


class Resource:
    """A resource: its methods answer the requests for its route, with the parts of the application."""

    def __init__(self, goqueue: GoQueue) -> None:
        self._goqueue = goqueue
