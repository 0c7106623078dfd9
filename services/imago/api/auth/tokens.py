"""Short-lived tokens (JWT, HS256) for browsers, issued for a key and valid only as long as it is."""

import time
from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID, uuid4

import jwt

from imago.core.clients.scopes import CLIENT_SCOPES, Scope

DEFAULT_SECONDS = 900
MAX_SECONDS = 3600

_ALGORITHM = "HS256"
_ISSUER = "imago"
# The clocks of replicas differ a little: a token that another one has just issued may be from this one's future.
MAX_CLOCK_SKEW_SECONDS = 60

_REQUIRED_CLAIMS = ["exp", "iat", "iss", "sub", "kid", "scope"]


@dataclass(frozen=True)
class Token:
    """The claims of a token: its client, its key, and the scopes that it is limited to."""

    client: UUID
    key_id: str
    scopes: frozenset[Scope]


class Tokens:
    """Issues and verifies tokens with `JWT_SECRET_KEY`."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def issue(self, *, client: UUID, key_id: str, scopes: Collection[Scope], seconds: int) -> str:
        """Return a token that expires after `seconds`."""
        now = int(time.time())
        claims = {
            "iss": _ISSUER,
            "sub": str(client),
            "kid": key_id,
            "scope": " ".join(sorted(scopes)),
            "iat": now,
            "exp": now + seconds,
            "jti": uuid4().hex,
        }
        return jwt.encode(claims, self._secret, algorithm=_ALGORITHM)

    def verify(self, text: str) -> Token | None:
        """Return the claims of a token, or None if it is invalid or has expired."""
        try:
            claims = jwt.decode(
                text,
                self._secret,
                algorithms=[_ALGORITHM],
                issuer=_ISSUER,
                # Not `leeway`, which would extend the lifetime of every token, too.
                options={"require": _REQUIRED_CLAIMS, "verify_iat": False},
            )
            if claims["iat"] > time.time() + MAX_CLOCK_SKEW_SECONDS:
                return None
            scopes = frozenset(Scope(name) for name in str(claims["scope"]).split())
            return Token(UUID(claims["sub"]), str(claims["kid"]), scopes & CLIENT_SCOPES)
        except (jwt.PyJWTError, ValueError, TypeError, AttributeError):
            return None
