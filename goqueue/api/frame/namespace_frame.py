"""Names the namespace of each request, where an API has several, and completes the addresses of answers."""

from __future__ import annotations

import falcon
from structlog.contextvars import bind_contextvars, unbind_contextvars

__all__ = ["NamespaceFrame"]

#: Headers whose value is an address of ours.
_ADDRESSES = ("Location", "HX-Redirect")


class NamespaceFrame:
    """Falcon middleware of the application of a namespace: its name in the log, its prefix in addresses.

    The prefix is WSGI's SCRIPT_NAME (PEP 3333): the application sees its own paths, and what it says of
    addresses is completed on the way out. What pages link to, the renderer completes.
    """

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace

    def process_request(self, request: falcon.Request, _response: falcon.Response) -> None:
        """Note whose request this is, for its log lines and its problems."""
        request.context.namespace = self._namespace
        bind_contextvars(namespace=self._namespace)

    def process_response(
        self, request: falcon.Request, response: falcon.Response, _resource: object, _succeeded: bool
    ) -> None:
        """Let the addresses of the answer lead to where the request came."""
        unbind_contextvars("namespace")
        for name in _ADDRESSES if request.root_path else ():
            address = response.get_header(name)
            if address is not None and address.startswith("/"):
                response.set_header(name, f"{request.root_path}{address}")
