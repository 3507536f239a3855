"""The rules that turn claims of a provider into roles."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from goqueue.access.principal import User
from goqueue.access.scopes import ROLES, Scope
from goqueue.access.users import (
    check_sign_in,
    claims_that_matter,
    principal_of_user,
    scopes_of_user,
)
from goqueue.config.role_rules import MAX_RULES, RoleRule, rules_as_text, rules_of
from goqueue.config.settings import Settings
from goqueue.errors import ConfigurationError

PAGE = Path(__file__).parents[2] / "docs" / "sign-in.md"


def rule(claim: str, value: Any, *roles: str) -> RoleRule:
    """A rule."""
    (made,) = rules_of([{"claim": claim, "value": value, "roles": list(roles or ["viewer"])}])
    return made


@pytest.mark.parametrize(
    ("claim", "value", "claims", "fits"),
    [
        ("groups", "ops", {"groups": ["dev", "ops"]}, True),
        ("groups", "ops", {"groups": "ops"}, True),
        ("groups", "ops", {"groups": ["Ops", "ops-team", " ops"]}, False),
        ("groups", "ops", {"groups": "devops"}, False),
        ("groups", "ops", {"groups": {"ops": True}}, False),
        ("groups", "ops", {"groups": [["ops"]]}, False),
        ("groups", "ops", {"groups": None}, False),
        ("groups", "ops", {}, False),
        ("a.b", "x", {"a": {"b": "x"}}, True),
        ("a.b", "x", {"a": {"b": ["x"]}}, True),
        ("a.b", "x", {"a.b": "x"}, True),
        ("a.b", "x", {"a.b": "y", "a": {"b": "x"}}, False),
        ("a.b", "x", {"a": ["b"]}, False),
        ("https://shop.example/roles", "x", {"https://shop.example/roles": ["x"]}, True),
        ("staff", True, {"staff": True}, True),
        ("staff", True, {"staff": 1}, False),
        ("staff", True, {"staff": "true"}, False),
        ("level", 1, {"level": 1}, True),
        ("level", 1, {"level": True}, False),
        ("level", 1, {"level": "1"}, False),
        ("level", 1, {"level": 1.0}, False),
        ("email", "a@b.c", {"email": "a@b.c", "email_verified": True}, True),
        ("email", "a@b.c", {"email": "a@b.c", "email_verified": "true"}, False),
        ("email", "a@b.c", {"email": "a@b.c"}, False),
    ],
)
def test_a_rule_fits_what_it_says(claim: str, value: Any, claims: dict[str, Any], fits: bool) -> None:
    """The whole value, of its own kind; and the same of what a session keeps of the claims."""
    rules = (rule(claim, value),)
    assert bool(scopes_of_user(rules, claims)) is fits
    assert bool(scopes_of_user(rules, claims_that_matter(rules, claims))) is fits


def test_all_rules_that_fit_count() -> None:
    """In whatever order they stand."""
    rules = (
        rule("groups", "a", "viewer"),
        rule("groups", "b", "payloads:read"),
        rule("groups", "c", "admin"),
    )
    assert scopes_of_user(rules, {"groups": ["b", "a"]}) == ROLES["viewer"] | {Scope.PAYLOADS_READ}
    assert scopes_of_user(rules, {"groups": ["c"]}) == frozenset(Scope)


def test_a_user_is_what_the_rules_make_of_one() -> None:
    """Known, with a label, without a key; nobody where no rule fits."""
    user = User("https://sso.example.com/realms/shop", "248289761001", "Ada")
    principal = principal_of_user((rule("g", "x"),), user, {"g": "x"})
    assert principal is not None
    assert principal.is_known
    assert (principal.label, principal.key_id, principal.key_hash) == ("Ada (sso.example.com)", None, "")
    assert principal.client == "248289761001 @ sso.example.com"
    assert principal_of_user((rule("g", "x"),), user, {"g": "y"}) is None


def test_only_what_rules_look_at_is_kept() -> None:
    """And of that, only what one can be equal to."""
    rules = (rule("groups", "ops"), rule("a.b", 7), rule("email", "x"))
    claims = {
        "groups": ["ops", "two\nlines", {"x": 1}, "y" * 301, None, 2**70, 1.5],
        "a": {"b": 7, "c": 8},
        "email": "x",
        "email_verified": True,
        "name": "Ada",
        "address": {"street": "1"},
    }
    kept = claims_that_matter(rules, claims)
    assert kept == {"groups": ["ops"], "a.b": 7, "email": "x", "email_verified": True}


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("{}", "expected a JSON array"),
        ("[", "expected a JSON array"),
        ("[" * 100_000, "expected a JSON array"),
        ([{}] * (MAX_RULES + 1), "expected a JSON array of at most"),
        (["ops"], "rule 1: expected an object"),
        (
            [{"claim": "a", "value": "b", "roles": ["c"], "role": "d"}],
            "rule 1: expected an object with claim",
        ),
        ([{"value": "b", "roles": ["c"]}], "rule 1: claim"),
        ([{"claim": "", "value": "b", "roles": ["c"]}], "rule 1: claim"),
        ([{"claim": "a", "roles": ["c"]}], "rule 1: value"),
        ([{"claim": "a", "value": 1.5, "roles": ["c"]}], "rule 1: value"),
        ([{"claim": "a", "value": ["b"], "roles": ["c"]}], "rule 1: value"),
        ([{"claim": "a", "value": "b", "roles": "admin"}], "rule 1: roles"),
        ([{"claim": "a", "value": "b", "roles": []}], "rule 1: roles"),
        ([{"claim": "a", "value": "b", "roles": [1]}], "rule 1: roles"),
        ([{"claim": "a", "value": "b", "roles": ["c"], "namespace": "beta"}], "rule 1: namespace"),
    ],
    ids=lambda said: str(said)[:40],
)
def test_what_is_no_rule_is_refused(said: Any, problem: str) -> None:
    """Which one it is, and what was expected."""
    with pytest.raises(ValueError, match=f"^{re.escape(problem)}"):
        rules_of(said)


def test_rules_are_written_as_they_are_read() -> None:
    """As the setting of a child process, and read from rules themselves."""
    rules = (rule("a", "b", "viewer", "admin"), rule("c", value=True), rule("d", 7))
    assert rules_of(rules_as_text(rules)) == rules_of(rules) == rules
    assert rules_of(" ") == ()


def settings_with(**changes: Any) -> Settings:
    """Settings of a sign-in."""
    given: dict[str, Any] = {
        "api_keys_required": True,
        "oidc_issuer": "https://sso.example.com",
        "oidc_client_id": "goqueue",
        "oidc_roles": (rule("g", "x", "operator"),),
    }
    return Settings(**(given | changes))


def test_a_role_that_there_is_not_is_told_at_the_start() -> None:
    """With the rule that names it; without a provider nothing is looked at."""
    check_sign_in(settings_with())
    check_sign_in(Settings())
    wrong = (rule("g", "x"), rule("g", "y", "boss"))
    with pytest.raises(
        ConfigurationError, match="GOQUEUE_OIDC_ROLES: rule 2: there is no scope or role 'boss'"
    ):
        check_sign_in(settings_with(oidc_roles=wrong))


def test_the_library_is_asked_for_where_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes with an extra."""
    monkeypatch.setattr("goqueue.access.users.find_spec", lambda _: None)
    check_sign_in(Settings())
    with pytest.raises(
        ConfigurationError, match="GOQUEUE_OIDC_ISSUER: it needs pip install 'goqueue\\[oidc\\]'"
    ):
        check_sign_in(settings_with())


def test_every_setting_of_the_sign_in_is_in_its_document() -> None:
    """And no other; the rules that it shows are rules, whose roles there are."""
    text = PAGE.read_text()
    documented = set(re.findall(r"^\| `GOQUEUE_(OIDC_\w+)`", text, re.MULTILINE))
    assert documented == {name.upper() for name in Settings.model_fields if name.startswith("oidc_")}
    shown = re.findall(r"```json\n(.*?)```", text, re.DOTALL) + re.findall(
        r"^GOQUEUE_OIDC_ROLES=(.*)$", text, re.MULTILINE
    )
    assert len(shown) == 3
    for rules in shown:
        check_sign_in(settings_with(oidc_roles=rules_of(json.loads(rules))))
