"""The rules that give roles to whoever signs in by OpenID Connect, as `GOQUEUE_OIDC_ROLES` has them.

A rule names a claim and a value: whoever has the value in the claim has the roles. All rules that match
count.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["MAX_RULES", "RoleRule", "rules_as_text", "rules_of"]

MAX_RULES = 200
TEXT_MAX_CHARACTERS = 300

#: The only namespace that a rule can give roles in.
NAMESPACE = "default"

_MEMBERS = dict.fromkeys(("claim", "value", "roles", "namespace")).keys()


@dataclass(frozen=True, slots=True)
class RoleRule:
    """A rule that gives roles to whoever has a value in a claim.

    Attributes:
        claim: its name, or the way to it through objects, with dots: `realm_access.roles`.
        value: what the claim is, or what is in it where it is a list. A text, a number or a boolean is only
            ever equal to one of its own kind.
        roles: names of roles and of scopes.
        namespace: where the roles are given.
    """

    claim: str
    value: str | bool | int
    roles: tuple[str, ...]
    namespace: str = NAMESPACE

    def as_document(self) -> dict[str, Any]:
        """Return the rule as an object of the setting."""
        return {
            "claim": self.claim,
            "value": self.value,
            "roles": list(self.roles),
            "namespace": self.namespace,
        }


def rules_of(said: Any) -> tuple[RoleRule, ...]:
    """Read rules: a JSON array of objects, or such a list, or rules that were read already.

    Raises:
        ValueError: they are something else, too many, or one of them is none; it says which.
    """
    if isinstance(said, str):
        said = _read(said) if said.strip() else []
    if not isinstance(said, list | tuple) or len(said) > MAX_RULES:
        raise ValueError(
            f"expected a JSON array of at most {MAX_RULES} rules, as "
            '[{"claim": "groups", "value": "ops", "roles": ["operator"]}]'
        )
    return tuple(_rule_of(number, rule) for number, rule in enumerate(said, start=1))


def rules_as_text(rules: tuple[RoleRule, ...]) -> str:
    """Write rules as the setting has them."""
    return json.dumps([rule.as_document() for rule in rules])


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _rule_of(number: int, said: Any) -> RoleRule:
    if isinstance(said, RoleRule):
        return said
    problem = _problem_with(said)
    if problem is not None:
        raise ValueError(f"rule {number}: {problem}")
    return RoleRule(said["claim"], said["value"], tuple(said["roles"]), said.get("namespace", NAMESPACE))


def _problem_with(said: Any) -> str | None:
    if not isinstance(said, Mapping) or not said.keys() <= _MEMBERS:
        return f"expected an object with {', '.join(_MEMBERS)}"
    roles, value = said.get("roles"), said.get("value")
    if not _is_text(said.get("claim")):
        return "claim: expected the name of a claim"
    if not _is_text(value) and not isinstance(value, bool | int):
        return "value: expected a text, a whole number, true or false"
    if not isinstance(roles, list) or not roles or not all(map(_is_text, roles)):
        return "roles: expected a list of names of roles and scopes"
    if said.get("namespace", NAMESPACE) != NAMESPACE:
        return f"namespace: expected {NAMESPACE!r}, which is the only one"
    return None


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= TEXT_MAX_CHARACTERS and value.isprintable()
