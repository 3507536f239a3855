"""Another API of the shop, whose users sign in at a provider, and that provider."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import httpx
from pydantic import SecretStr

from goqueue.config.role_rules import rules_of
from goqueue.dev.embedded import HOST, free_port
from tests.support.dashboard.shop import Shop
from tests.support.servers.openid_provider import CLIENT_ID, CLIENT_SECRET, FakeUser, OpenIdProvider
from tests.support.waiting import wait_until

__all__ = ["PROVIDER_NAME", "ShopWithUsers", "shop_with_users"]

#: What the login calls the provider.
PROVIDER_NAME = "The Shop"

_USERS = {
    "Ada": FakeUser("ada-1", {"name": "Ada Lovelace", "groups": ["ops"]}),
    "Bob": FakeUser("bob-1", {"name": "Bob", "groups": ["sales"]}),
}
_RULES = [{"claim": "groups", "value": "ops", "roles": ["operator", "keys:manage"]}]


class ShopWithUsers(NamedTuple):
    """An API of a shop whose users sign in at a provider: Ada has a role, and Bob has none.

    Attributes:
        url: the root of the API.
    """

    url: str
    provider: OpenIdProvider


@contextmanager
def shop_with_users(shop: Shop) -> Iterator[ShopWithUsers]:
    """Run a provider, and another API of the shop before which users sign in there."""
    port = free_port()
    url = f"http://{HOST}:{port}"
    with OpenIdProvider() as provider:
        provider.users = dict(_USERS)
        provider.redirect_uris = {f"{url}/dashboard/login/callback"}
        provider.logout_uris = {f"{url}/dashboard/login"}
        settings: dict[str, Any] = {
            "api_port": port,
            "api_keys_required": True,
            "oidc_issuer": provider.issuer,
            "oidc_client_id": CLIENT_ID,
            "oidc_client_secret": SecretStr(CLIENT_SECRET),
            "oidc_roles": rules_of(_RULES),
            "oidc_display_name": PROVIDER_NAME,
        }
        child = shop.stack.run(["-m", "goqueue", "api"], **settings)
        wait_until(lambda: _answers(url), 30, "the API with users to answer")
        yield ShopWithUsers(url, provider)
        child.kill()


def _answers(url: str) -> bool:
    with suppress(httpx.HTTPError):
        return httpx.get(f"{url}/dashboard/login", trust_env=False).is_success
    return False
