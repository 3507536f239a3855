"""The page of those who are signed in to the dashboard, and the action that signs them out."""

from __future__ import annotations

from collections.abc import Mapping

import falcon
import structlog

from goqueue.dashboard.access.guard import FOLDER, form_of
from goqueue.dashboard.access.session_rows import SignedIn
from goqueue.dashboard.notices import go_to
from goqueue.dashboard.page import Page

__all__ = ["EndSessionsAction", "SessionsPage"]

log = structlog.get_logger(__name__)

PLACE = f"{FOLDER}/sessions"

#: The page shows the newest.
SESSIONS_SHOWN = 100


class SessionsPage(Page):
    """The page with the sessions that know a key of the service or a user."""

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Show who is signed in."""
        found = self._site.sessions.signed_in(SESSIONS_SHOWN + 1)
        self._renderer.page(
            request,
            response,
            "sessions.html",
            sessions=found[:SESSIONS_SHOWN],
            has_more=len(found) > SESSIONS_SHOWN,
            keys=self._keys_of(found),
            own=request.context.session.name_hash,
        )

    def _keys_of(self, found: list[SignedIn]) -> Mapping[int, str]:
        """The labels of the keys that were shown, by the ids of the sessions."""
        owners = {one.id: self._site.sessions.principal_of_owner(one.owner) for one in found}
        return {session_id: owner.label for session_id, owner in owners.items() if owner is not None}


class EndSessionsAction(Page):
    """The action that ends one session, or all but the one that asks."""

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """End the chosen sessions, and go back to the page."""
        sessions = self._site.sessions
        chosen = form_of(request).get("session", "")
        wanted = [
            one.id
            for one in sessions.signed_in(10_000)
            if (str(one.id) == chosen)
            or (chosen == "others" and one.name_hash != request.context.session.name_hash)
        ]
        ended = sessions.end(wanted)
        for session_id in ended:
            log.info("session_ended", session_id=session_id, address=request.remote_addr)
        said = {0: "That session has ended already.", 1: "The session has ended."}
        go_to(request, response, PLACE, said.get(len(ended), f"{len(ended)} sessions have ended."))
