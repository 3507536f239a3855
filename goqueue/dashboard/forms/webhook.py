"""The form of a webhook: lists as texts with commas, headers as lines."""

from __future__ import annotations

from typing import Any

from goqueue.errors import InvalidJobError
from goqueue.webhooks.subscription_rows import Webhook
from goqueue.webhooks.webhooks import KEPT

__all__ = ["FIELDS", "document_of", "said_of", "wrong_by_field"]

LISTS = ("events", "queues", "types", "tags")
FLAGS = ("ordered", "with_contents")

#: The texts and checkboxes of the form.
FIELDS = ("name", "url", *LISTS, "headers", *FLAGS)


def document_of(said: dict[str, str]) -> dict[str, Any]:
    """Return what the form says, as a request.

    Raises:
        InvalidJobError: a line of the headers is none.
    """
    document: dict[str, Any] = {"url": said.get("url", "").strip(), "headers": _headers(said)}
    document |= {name: _listed(said.get(name, "")) for name in LISTS}
    return document | {name: bool(said.get(name)) for name in FLAGS}


def said_of(webhook: Webhook) -> dict[str, str]:
    """Return what the form says of a webhook; of its headers the names, whose values it keeps."""
    said = {"name": webhook.name, "url": webhook.url}
    said |= {name: ", ".join(getattr(webhook, name) or ()) for name in LISTS}
    said["headers"] = "\n".join(f"{name}: {KEPT}" for name in webhook.headers)
    return said | {name: "1" if getattr(webhook, name) else "" for name in FLAGS}


def wrong_by_field(fields: dict[str, str]) -> dict[str, str]:
    """Return what is wrong by the names of the form's fields."""
    wrong: dict[str, str] = {}
    for path, problem in fields.items():
        wrong.setdefault(path.partition(".")[0].partition("[")[0], problem)
    return wrong


def _listed(text: str) -> list[str] | None:
    return [name.strip() for name in text.split(",") if name.strip()] or None


def _headers(said: dict[str, str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in filter(None, map(str.strip, said.get("headers", "").splitlines())):
        name, colon, value = line.partition(":")
        if not colon:
            raise InvalidJobError({"headers": "expected a name, a colon and a value on each line"})
        headers[name.strip()] = value.strip()
    return headers
