"""Users, who sign in at a provider of OpenID Connect: who they are, and what the rules let them do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from typing import Any

from goqueue.access.principal import Principal, User
from goqueue.access.scopes import Scope, effective, scopes_of
from goqueue.config.role_rules import RoleRule
from goqueue.config.settings import Settings
from goqueue.errors import ConfigurationError, InvalidJobError

__all__ = ["check_sign_in", "claims_that_matter", "claims_wanted", "principal_of_user", "scopes_of_user"]

#: A provider lets people say what they like here, unless it says that it looked.
EMAIL = "email"
EMAIL_VERIFIED = "email_verified"

#: Of a claim so much is kept.
VALUES_MAX = 1_000
TEXT_MAX_CHARACTERS = 300


def check_sign_in(settings: Settings) -> None:
    """Check that users can sign in as the settings say, where they say so; nothing is asked of the provider.

    Raises:
        ConfigurationError: the library is not installed, or a rule names a role that there is not.
    """
    if settings.oidc_issuer is None:
        return
    problems = []
    if find_spec("authlib") is None:
        problems.append("GOQUEUE_OIDC_ISSUER: it needs pip install 'goqueue[oidc]'")
    for number, rule in enumerate(settings.oidc_roles, start=1):
        try:
            scopes_of(rule.roles, field="roles")
        except InvalidJobError as error:
            problems.append(f"GOQUEUE_OIDC_ROLES: rule {number}: {error.fields['roles']}")
    if problems:
        raise ConfigurationError(problems)


def scopes_of_user(rules: Iterable[RoleRule], claims: Mapping[str, Any]) -> frozenset[Scope]:
    """Return all that the rules which match these claims allow together; nothing where none does."""
    roles = [role for rule in rules if _matches(rule, claims) for role in rule.roles]
    return effective(scopes_of(roles))


def principal_of_user(rules: Iterable[RoleRule], user: User, claims: Mapping[str, Any]) -> Principal | None:
    """Return what a user may do, by these rules; None: no rule gives that one a role."""
    scopes = scopes_of_user(rules, claims)
    return Principal(user.name, scopes, user=user) if scopes else None


def claims_wanted(rules: Iterable[RoleRule]) -> set[str]:
    """Return the claims that these rules look at."""
    wanted = {rule.claim for rule in rules}
    return wanted | {EMAIL_VERIFIED} if EMAIL in wanted else wanted


def claims_that_matter(rules: Iterable[RoleRule], claims: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of these claims the rules look at, by the names that the rules have for it."""
    found = {name: _plain(_claim(claims, name)) for name in claims_wanted(rules)}
    return {name: value for name, value in found.items() if value not in (None, [])}


def _matches(rule: RoleRule, claims: Mapping[str, Any]) -> bool:
    # With an address that nobody looked at, people could give themselves the roles of others.
    if rule.claim == EMAIL and claims.get(EMAIL_VERIFIED) is not True:
        return False
    said = _claim(claims, rule.claim)
    return any(_is_same(value, rule.value) for value in (said if isinstance(said, list) else [said]))


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    """A claim of this name, which may have dots, or else what its parts lead to; None: there is none."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _is_same(value: Any, wanted: str | bool | int) -> bool:
    # True is 1 to Python, and to no provider.
    return type(value) is type(wanted) and value == wanted


def _plain(value: Any) -> Any:
    """What a rule can be equal to, of a claim: texts, numbers and booleans, alone or in a list."""
    if isinstance(value, list):
        return [item for item in value[:VALUES_MAX] if _is_plain(item)]
    return value if _is_plain(value) else None


def _is_plain(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= TEXT_MAX_CHARACTERS and value.isprintable()
    return isinstance(value, bool) or (isinstance(value, int) and abs(value) < 2**63)
