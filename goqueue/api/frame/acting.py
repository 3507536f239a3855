"""The actor of each request, for the audit log: the key that it came with or the user, and from where."""

from __future__ import annotations

import falcon

from goqueue.access.principal import Principal
from goqueue.api.frame.security import principal_of
from goqueue.audit.actor import Actor, ActorKind, acting_as

__all__ = ["Acting", "actor_of"]


class Acting:
    """Falcon middleware that says who makes the changes of a request, while it is answered."""

    def process_resource(
        self, request: falcon.Request, response: falcon.Response, _resource: object, _params: object
    ) -> None:
        """Begin to act for whoever asks."""
        acting = acting_as(
            actor_of(principal_of(request), request.remote_addr, response.get_header("X-Request-ID"))
        )
        acting.__enter__()
        request.context.acting = acting

    def process_response(
        self, request: falcon.Request, _response: falcon.Response, _resource: object, _succeeded: bool
    ) -> None:
        """End it: the thread answers somebody else next."""
        acting = getattr(request.context, "acting", None)
        if acting is not None:
            acting.__exit__(None, None, None)


def actor_of(principal: Principal, address: str | None, request_id: str | None = None) -> Actor:
    """Return the actor that a key or a user is, or anybody, for what it changes."""
    user = principal.user
    if user is not None:
        return Actor(ActorKind.USER, user.name, None, address, request_id, user.issuer, user.subject)
    kind = ActorKind.KEY if principal.key_hash else ActorKind.ANYBODY
    name = principal.name or principal.label
    return Actor(kind, name, principal.key_id, address, request_id)
