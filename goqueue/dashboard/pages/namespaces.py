"""The pages of namespaces inside of the database: made, shown beside their quotas, changed and deleted."""

from __future__ import annotations

from typing import Any

import falcon

from goqueue.access.quotas import QUOTA_NAMES, NewNamespace, QuotaChanges, Quotas
from goqueue.api.frame.security import principal_of
from goqueue.dashboard.access.guard import FOLDER, form_of
from goqueue.dashboard.notices import go_to
from goqueue.dashboard.page import Page
from goqueue.engine.options.request_models import validate
from goqueue.errors import InvalidJobError, NamespaceConflictError

__all__ = ["DeleteNamespaceAction", "NamespacePage", "NamespacesPage"]

PLACE = f"{FOLDER}/namespaces"

#: Of the quotas, the one that is no whole number.
_RATE = "creates_per_second"


class NamespacesPage(Page):
    """The list of the namespaces with the form of a new one."""

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Show the namespaces by name, each beside its quotas."""
        _expect_governs(request)
        self._show(request, response)

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Make a namespace, and go to it. What is wrong is told beside the fields."""
        _expect_governs(request)
        said = form_of(request)
        try:
            wanted = validate(NewNamespace, {"name": said.get("name", "").strip()} | _quotas_of(said))
            quotas = wanted.of(Quotas())
            made = self._goqueue.namespaces.create(wanted.name, quotas, by=principal_of(request).label)
        except (InvalidJobError, NamespaceConflictError) as error:
            response.status = falcon.HTTP_400
            self._show(request, response, said=said, wrong=_wrong(error, "name"))
            return
        go_to(request, response, f"{PLACE}/{made.name}", f"The namespace {made.name} is made.")

    def _show(
        self,
        request: falcon.Request,
        response: falcon.Response,
        *,
        said: dict[str, str] | None = None,
        wrong: dict[str, str] | None = None,
    ) -> None:
        namespaces = self._goqueue.namespaces
        found = [(one, namespaces.use_of(one.name)) for one in namespaces.every()]
        said = {"share": "1"} | (said or {})
        self._renderer.page(
            request,
            response,
            "namespaces.html",
            found=found,
            said={name: said.get(name, "") for name in ("name", *QUOTA_NAMES)},
            wrong=wrong or {},
        )


class NamespacePage(Page):
    """The page of one namespace: what it uses, the form of its quotas, and its end."""

    def on_get(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Show the namespace, beside what it uses."""
        _expect_governs(request)
        self._show(request, response, name)

    def on_post(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Change the quotas of the namespace. What is wrong is told beside the fields."""
        _expect_governs(request)
        said = form_of(request)
        try:
            self._goqueue.namespaces.change(name, validate(QuotaChanges, _quotas_of(said)))
        except InvalidJobError as error:
            response.status = falcon.HTTP_400
            self._show(request, response, name, said=said, wrong=_wrong(error, "name"))
            return
        go_to(request, response, f"{PLACE}/{name}", "The quotas are changed: they hold within two seconds.")

    def _show(
        self,
        request: falcon.Request,
        response: falcon.Response,
        name: str,
        *,
        said: dict[str, str] | None = None,
        wrong: dict[str, str] | None = None,
    ) -> None:
        found = self._goqueue.namespaces.get(name)
        own = {quota: getattr(found.quotas, quota) for quota in QUOTA_NAMES}
        shown = {quota: "" if value is None else f"{value:g}" for quota, value in own.items()}
        shown |= {quota: f"{value}" for quota, value in own.items() if isinstance(value, int)}
        self._renderer.page(
            request,
            response,
            "namespace.html",
            namespace=found,
            use=self._goqueue.namespaces.use_of(name),
            said=said or shown,
            wrong=wrong or {},
        )


class DeleteNamespaceAction(Page):
    """The action that deletes a namespace."""

    def on_post(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Delete the namespace, whose name was typed for it, and go back to the list."""
        _expect_governs(request)
        typed = form_of(request).get("typed", "").strip()
        if typed != name:
            raise falcon.HTTPBadRequest(description="expected the name of the namespace once more")
        self._goqueue.namespaces.delete(name, force=typed, by=principal_of(request).label)
        go_to(request, response, PLACE, f"The namespace {name} is deleted, and its keys are revoked.")


def _expect_governs(request: falcon.Request) -> None:
    """For the key of a namespace there are no others, and so no such page."""
    if not principal_of(request).governs_namespaces:
        raise falcon.HTTPNotFound


def _quotas_of(said: dict[str, str]) -> dict[str, Any]:
    """The quotas that the form says; an empty field is none."""
    document: dict[str, Any] = {}
    for quota in QUOTA_NAMES:
        text = said.get(quota, "").strip().replace(",", "")
        if text:
            document[quota] = _number(quota, text)
        elif quota != "share":
            document[quota] = None
    return document


def _number(quota: str, text: str) -> float | int:
    try:
        return float(text) if quota == _RATE else int(text)
    except ValueError:
        raise InvalidJobError({quota: "expected a number"}) from None


def _wrong(error: InvalidJobError | NamespaceConflictError, elsewhere: str) -> dict[str, str]:
    return error.fields if isinstance(error, InvalidJobError) else {elsewhere: str(error)}
