"""Pages of lists: the Link header, and opaque cursors that say where a page begins, and of which list."""

from __future__ import annotations

import base64
import binascii
import hashlib
from urllib.parse import urlencode

import falcon

from goqueue.engine.listing.filters import JobFilter
from goqueue.errors import InvalidJobError
from goqueue.jobs import MAX_JOB_ID

_ID_BYTES = 8
_LIST_BYTES = 7  # 15 bytes together: no padding in base64


def link_next(request: falcon.Request, response: falcon.Response, cursor: str) -> None:
    """Say in the Link header where the page after this one is: the same query with this cursor."""
    query = urlencode(dict(request.params) | {"cursor": cursor})
    response.append_link(f"{request.root_path}{request.path}?{query}", "next")


def write_cursor(last_id: int, wanted: JobFilter) -> str:
    """The cursor of the page after the one that ends with this job."""
    return base64.urlsafe_b64encode(last_id.to_bytes(_ID_BYTES) + _list_of(wanted)).decode()


def read_cursor(cursor: str, wanted: JobFilter) -> int:
    """The id that the cursor's page stays below.

    Raises:
        InvalidJobError: it is not a cursor of this list.
    """
    try:
        content = base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        content = b""
    last_id = int.from_bytes(content[:_ID_BYTES])
    if content[_ID_BYTES:] != _list_of(wanted) or not 0 < last_id <= MAX_JOB_ID:
        raise InvalidJobError({"cursor": "expected the cursor of a Link header, with the same filters"})
    return last_id


def _list_of(wanted: JobFilter) -> bytes:
    return hashlib.sha256(repr(wanted).encode(errors="replace")).digest()[:_LIST_BYTES]
