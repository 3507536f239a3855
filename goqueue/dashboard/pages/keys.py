"""The page of the API keys, and what is done there: keys are made, rotated and revoked."""

from __future__ import annotations

from typing import Any

import falcon

from goqueue.access.keys import KEYS_MAX, OVERLAP_SECONDS, MadeKey, NewKey
from goqueue.access.scopes import ROLES, Scope
from goqueue.api.frame.security import principal_of
from goqueue.dashboard.access.guard import FOLDER, form_of
from goqueue.dashboard.notices import go_to
from goqueue.dashboard.page import Page
from goqueue.engine.options.request_models import validate
from goqueue.errors import InvalidJobError

__all__ = ["KeysPage", "RevokeKeyAction", "RotateKeyAction"]

PLACE = f"{FOLDER}/keys"

DAY_SECONDS = 86_400

#: The checkbox of a scope in the form.
BOX = "scope-"

#: The texts of the form.
FIELDS = ("name", "role", "queues", "types", "days")


class _KeysForm(Page):
    """The list of the keys with the form of a new one."""

    def _show(
        self,
        request: falcon.Request,
        response: falcon.Response,
        *,
        made: MadeKey | None = None,
        said: dict[str, str] | None = None,
        wrong: dict[str, str] | None = None,
    ) -> None:
        keys = self._goqueue.keys.list()
        said = said or {}
        principal = principal_of(request)
        self._renderer.page(
            request,
            response,
            "keys.html",
            keys=keys,
            has_more=len(keys) == KEYS_MAX,
            made=made,
            own_id=principal.key_id,
            roles={role: sorted(scopes) for role, scopes in ROLES.items()},
            scopes=list(Scope),
            said={name: said.get(name, "") for name in FIELDS},
            checked=[name.removeprefix(BOX) for name in said if name.startswith(BOX)],
            wrong=wrong or {},
            needs_key=self._goqueue.settings.needs_api_key,
            overlap_seconds=OVERLAP_SECONDS,
        )
        # Whoever looks at it later, in the history of the browser or of a proxy, is shown no secret.
        response.set_header("Cache-Control", "no-store")


class KeysPage(_KeysForm):
    """The page of the API keys."""

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Show the keys, the newest first."""
        self._show(request, response)

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Make a key, and show its text, this once. What is wrong is told beside the fields."""
        said, principal = form_of(request), principal_of(request)
        try:
            wanted = validate(NewKey, _document(said))
            made = self._goqueue.keys.create_new(wanted, by=principal.label, maker=principal)
        except InvalidJobError as error:
            response.status = falcon.HTTP_400
            self._show(request, response, said=said, wrong=_by_field(error.fields))
            return
        self._show(request, response, made=made)


class RotateKeyAction(_KeysForm):
    """The action that gives a key another secret."""

    def on_post(self, request: falcon.Request, response: falcon.Response, key_id: str) -> None:
        """Rotate the key, and show its new text, this once."""
        principal = principal_of(request)
        made = self._goqueue.keys.rotate(key_id, by=principal.label, maker=principal)
        self._show(request, response, made=made)


class RevokeKeyAction(Page):
    """The action that revokes a key."""

    def on_post(self, request: falcon.Request, response: falcon.Response, key_id: str) -> None:
        """Revoke the key for good, and go back to the list."""
        key = self._goqueue.keys.revoke(key_id, by=principal_of(request).label)
        go_to(request, response, PLACE, f"The key {key.name} ({key.id}) is revoked.")


def _document(said: dict[str, str]) -> dict[str, Any]:
    """What the form says, as a request."""
    checked = [name.removeprefix(BOX) for name in said if name.startswith(BOX)]
    document: dict[str, Any] = {
        "name": said.get("name", "").strip(),
        "scopes": [*([said["role"]] if said.get("role") else []), *checked],
        "queues": _names(said.get("queues", "")),
        "types": _names(said.get("types", "")),
    }
    days = said.get("days", "").strip()
    if days:
        try:
            document["expires_in_seconds"] = float(days) * DAY_SECONDS
        except ValueError:
            raise InvalidJobError({"expires_in_seconds": "expected a number of days"}) from None
    return document


def _names(text: str) -> list[str] | None:
    names = [name.strip() for name in text.split(",") if name.strip()]
    return names or None


def _by_field(fields: dict[str, str]) -> dict[str, str]:
    """What is wrong, by the names of the form's fields."""
    names = {"expires_in_seconds": "days", "scopes": "role"}
    wrong: dict[str, str] = {}
    for path, problem in fields.items():
        name = path.partition(".")[0].partition("[")[0]
        wrong.setdefault(names.get(name, name), problem)
    return wrong
