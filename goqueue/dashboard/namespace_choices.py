"""The namespaces that the header of a page leads to, for whoever looks at it."""

from __future__ import annotations

from typing import NamedTuple

from goqueue.access.principal import Principal
from goqueue.api.app import NAMESPACE_PREFIX
from goqueue.config.namespaces import DEFAULT_NAMESPACE
from goqueue.instance import GoQueue

__all__ = ["NamespaceChoice", "namespace_choices"]


class NamespaceChoice(NamedTuple):
    """A namespace that the header leads to.

    Attributes:
        place: where its pages are.
        is_here: whether the page is of it.
    """

    name: str
    place: str
    is_here: bool


def namespace_choices(goqueue: GoQueue, principal: Principal) -> list[NamespaceChoice]:
    """List the installations of a file, and namespaces inside of the database for who may act in them."""
    settings = goqueue.settings
    is_one_of_several = settings.namespaces_file is not None
    inside = list(goqueue.namespaces.known()) if principal.governs_namespaces else []
    if not is_one_of_several and not inside:
        return []
    names = settings.names_of_namespaces() if is_one_of_several else [DEFAULT_NAMESPACE]
    here = settings.namespace if is_one_of_several else DEFAULT_NAMESPACE
    is_inside = settings.database_namespace is not None
    choices = [
        NamespaceChoice(name, f"{NAMESPACE_PREFIX}{name}", name == here and not is_inside) for name in names
    ]
    below = f"{NAMESPACE_PREFIX}{here}" if is_one_of_several else ""
    for name in inside:
        place = f"{below}{NAMESPACE_PREFIX}{name}"
        choices.append(NamespaceChoice(name, place, name == settings.database_namespace))
    return choices
