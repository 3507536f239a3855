"""All queues: how much waits in each, how fast it goes, and pausing it."""

from __future__ import annotations

import falcon

from goqueue.dashboard.forms.queue import Blanks, limit_words
from goqueue.dashboard.page import Page, Site
from goqueue.dashboard.queue_reading import QueueReader
from goqueue.insight.overview_rows import COUNTED_UP_TO, QUEUES_SHOWN

__all__ = ["PAUSES", "QueuesPage"]

#: How long a pause may be by a choice; "" is without an end.
PAUSES = (
    ("", "until somebody resumes it"),
    ("300", "for 5 minutes"),
    ("900", "for 15 minutes"),
    ("3600", "for an hour"),
    ("21600", "for 6 hours"),
    ("86400", "for a day"),
)


class QueuesPage(Page):
    """The queues, by name."""

    def __init__(self, site: Site, reader: QueueReader) -> None:
        super().__init__(site)
        self._reader = reader

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """The page."""
        views, has_more = self._reader.all()
        self._renderer.page(
            request,
            response,
            "queues.html",
            views=views,
            has_more=has_more,
            shown=QUEUES_SHOWN,
            counted_up_to=COUNTED_UP_TO,
            limit_words=limit_words,
            pauses=PAUSES,
            blank=Blanks(),
        )
