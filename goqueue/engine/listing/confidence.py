"""Conditions by which a search in payloads passes over what is redacted."""

from __future__ import annotations

from collections.abc import Iterator

from goqueue.contents.contents import JobContents
from goqueue.contents.redaction import is_redacted_path
from goqueue.errors import InvalidJobError

__all__ = ["conditions_of_confidence", "hiding"]


def conditions_of_confidence(
    contents: JobContents, payload: str | None, type_name: str | None, path: tuple[str, ...]
) -> Iterator[str]:
    """Keep a search out of fields that are redacted: who looks for their values would find out what they are.

    It takes the parameter `confidential`, the types that have such fields there.

    Raises:
        InvalidJobError: it asks for those of one type, which has some there.
    """
    if payload is None or not contents.redacted:
        return
    if type_name in hiding(contents, path):
        said = (
            f"the field {'.'.join(path)} of this type is redacted"
            if path
            else ("this type has redacted fields: say the path of another one, user.country:DE")
        )
        raise InvalidJobError({"payload": f"it cannot be searched: {said}"})
    yield "type <> ALL (%(confidential)s::text[])"
    if path:
        # An object has its redacted fields in its text.
        scalar = "json_typeof(payload #> %(path)s::text[]) NOT IN ('object', 'array')"
        yield f"(type <> ALL (%(redacting)s::text[]) OR {scalar})"


def hiding(contents: JobContents, path: tuple[str, ...]) -> tuple[str, ...]:
    """Return the types that have a redacted field at a path; without one, anywhere."""
    hiding = (
        name
        for name, fields in contents.redacted.items()
        if not path or is_redacted_path(".".join(path), fields)
    )
    return tuple(sorted(hiding))
