"""ID tokens: signed by the provider, for us, now, and for the sign-in that a browser began; or refused."""

from __future__ import annotations

from typing import Any

from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError

from goqueue.dashboard.access.openid.provider import Provider, PublicKey
from goqueue.errors import SignInRefusedError

__all__ = ["ALGORITHMS", "LEEWAY_SECONDS", "read_id_token"]

#: Signatures that only the provider can make. Neither `none`, nor HS*, whose key everybody would have who has
#: the public one.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")

#: The clocks of two servers may differ by so much.
LEEWAY_SECONDS = 60

SUBJECT_MAX_CHARACTERS = 255


def read_id_token(
    id_token: str, provider: Provider, *, client_id: str, nonce: str, access_token: str | None
) -> dict[str, Any]:
    """Return the claims of an ID token, every one of which is the provider's word to us.

    Args:
        id_token: as the provider gave it for a code.
        provider: whose keys it is checked with.
        client_id: what the provider calls us.
        nonce: of the sign-in that it is for.
        access_token: what came with it.

    Raises:
        SignInRefusedError: it is not what it should be.
        ProviderUnavailableError: the keys could not be read.
    """
    try:
        token = jwt.decode(id_token, lambda signed: _key(provider, signed.headers()), algorithms=ALGORITHMS)
        claims = CodeIDToken(
            token.claims,
            token.header,
            options={
                "iss": {"essential": True, "value": provider.issuer},
                "aud": {"essential": True, "value": client_id},
                "sub": {"essential": True},
            },
            params={"nonce": nonce, "client_id": client_id, "access_token": access_token},
        )
        claims.validate(leeway=LEEWAY_SECONDS)
    except (JoseError, ValueError, TypeError, OverflowError) as error:
        raise _refusal(f"{type(error).__name__}: {error}") from None
    if not _is_subject(claims["sub"]):
        raise _refusal("the subject is no text of at most 255 characters")
    return dict(claims)


def _key(provider: Provider, header: dict[str, Any]) -> PublicKey:
    """The key of a token whose algorithm is one of those that are allowed."""
    algorithm, key_id = header["alg"], header.get("kid")
    key = provider.key(key_id if isinstance(key_id, str) else None, algorithm)
    if key is None:
        raise _refusal(f"the provider has no key {key_id!r} for {algorithm}")
    return key


def _is_subject(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= SUBJECT_MAX_CHARACTERS and value.isprintable()


def _refusal(reason: str) -> SignInRefusedError:
    return SignInRefusedError("The answer of the provider is not what it should be.", reason[:300])
