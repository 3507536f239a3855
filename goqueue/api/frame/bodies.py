"""Reading request bodies: bounded while reading, whoever announces or hides their length."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

import falcon

from goqueue.access.key_ring import KeyRing
from goqueue.api.frame.json_reader import read_json
from goqueue.config.settings import Settings
from goqueue.errors import InvalidJobError

CHUNK_BYTES = 64 * 1024

FORM = "application/x-www-form-urlencoded"
MAX_FORM_FIELDS = 5_000

#: A form holds a payload of the largest size, with every character escaped.
FORM_FACTOR = 4

#: The one route on which a body may be larger than one job.
BATCH_PATHS = frozenset({"/jobs/batch", "/leases/complete"})

#: Below it a body may hold a result beside what is said of it.
LEASES_PATH = "/leases/"


class BodyLimits:
    """The size up to which a body is read, known from the header of its request.

    Args:
        keys: who may send more than nothing; None is everybody.
        is_site: whether a path belongs to the site, which has a guard of its own.
    """

    def __init__(
        self, settings: Settings, keys: KeyRing | None, is_site: Callable[[str], bool] = lambda _path: False
    ) -> None:
        self._settings = settings
        self._keys = keys
        self._is_site = is_site

    def of(self, _method: str, path: str, authorization: str) -> int:
        """Return the bytes that a body may have; more is refused by what reads it, without having read it."""
        if self._is_site(path):
            return FORM_FACTOR * self._settings.job_max_bytes
        if self._keys is not None and not self._keys.may_know(authorization):
            return 0
        if path in BATCH_PATHS:
            return self._settings.batch_max_bytes
        more = self._settings.result_max_bytes if path.startswith(LEASES_PATH) else 0
        return self._settings.job_max_bytes + more


def read_document(request: falcon.Request, max_bytes: int) -> Any:
    """Read the JSON body of a request.

    Raises:
        HTTPUnsupportedMediaType: it does not say that it is JSON.
        HTTPContentTooLarge: it is larger than `max_bytes`.
        InvalidJobError: it is not strict JSON.
    """
    _expect_json(request)
    return read_json(_read(request, max_bytes))


def read_optional_document(request: falcon.Request, max_bytes: int) -> Any:
    """Read the JSON body, or an empty object where there is none. Raises as `read_document`."""
    if not request.content_length and not request.get_header("Transfer-Encoding"):
        return {}
    return read_document(request, max_bytes)


def read_form(request: falcon.Request) -> dict[str, str]:
    """Read the fields of a form that was sent as such, or as a JSON object; of a field sent twice, the last.

    How large it may be was decided before.

    Raises:
        HTTPUnsupportedMediaType: it is neither.
        InvalidJobError: it has too many fields, or is not strict JSON.
    """
    length = request.content_length or 0
    if not length:
        return {}
    if _media_type(request) == FORM:
        text = _read(request, length).decode(errors="replace")
        try:
            return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FORM_FIELDS))
        except ValueError:
            raise InvalidJobError({"body": f"expected at most {MAX_FORM_FIELDS:,} fields"}) from None
    document = read_document(request, length)
    if not isinstance(document, dict):
        raise falcon.HTTPUnsupportedMediaType(description="expected a form")
    return {
        name: str(value[-1] if isinstance(value, list) and value else value)
        for name, value in document.items()
    }


def _media_type(request: falcon.Request) -> str:
    return (request.content_type or "").partition(";")[0].strip().lower()


def _expect_json(request: falcon.Request) -> None:
    media_type = _media_type(request)
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise falcon.HTTPUnsupportedMediaType(description="expected Content-Type: application/json")
    if request.get_header("Content-Encoding", default="identity").lower() != "identity":
        raise falcon.HTTPUnsupportedMediaType(description="expected no Content-Encoding")


def _read(request: falcon.Request, max_bytes: int) -> bytes:
    length = request.content_length
    if length is not None and length > max_bytes:
        raise _too_large(max_bytes)
    try:
        if length is not None:
            return bytes(request.bounded_stream.read())
        if "chunked" in request.get_header("Transfer-Encoding", default="").lower():
            return _read_chunked(request, max_bytes)
    except falcon.HTTPError:
        raise
    except Exception:  # noqa: BLE001  (each WSGI server has errors of its own for a wrong chunk or a lost client)
        raise InvalidJobError({"body": "the body could not be read to its end"}) from None
    return b""


def _read_chunked(request: falcon.Request, max_bytes: int) -> bytes:
    body = bytearray()
    while chunk := request.stream.read(CHUNK_BYTES):
        body += chunk
        if len(body) > max_bytes:
            raise _too_large(max_bytes)
    return bytes(body)


def _too_large(max_bytes: int) -> falcon.HTTPContentTooLarge:
    return falcon.HTTPContentTooLarge(description=f"expected a body of at most {max_bytes} bytes")
