"""The secrets of `.env.example`, which everybody knows: outside of development nothing starts with them."""

from __future__ import annotations

from urllib.parse import unquote

EXAMPLE_SECRETS = frozenset(
    {
        "example-postgres-password",
        "example-redis-password",
        # the hash of the API key gq_example_key_for_development
        "8115b198142acf9a2503b949a3a980df76e64c95836d31b5bc8218e96ee79415",
        "whsec_ZXhhbXBsZS1zZWNyZXQtZm9yLWRldmVsb3BtZW50ISE=",
    }
)


def holds_example_secret(value: str) -> bool:
    """Tell whether a setting is, or has in it (as a URL has its password), a secret of `.env.example`."""
    text = unquote(value)
    return any(secret in text for secret in EXAMPLE_SECRETS)
