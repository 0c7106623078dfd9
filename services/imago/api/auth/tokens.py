"""Short-lived tokens (JWT, HS256) for browsers, made from a key and dying with it."""

import time
from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID, uuid4

import jwt

from imago.core.clients.scopes import CLIENT_SCOPES, Scope

DEFAULT_SECONDS = 900
LONGEST_SECONDS = 3600

_ALGORITHM = "HS256"
_ISSUER = "imago"
_NEEDED = ["exp", "iat", "iss", "sub", "kid", "scope"]


@dataclass(frozen=True)
class Token:
    """What a token says: whose it is, which key it was made with, and what it may at most."""

    client: UUID
    key_id: str
    scopes: frozenset[Scope]


class Tokens:
    """Makes and reads tokens under `JWT_SECRET_KEY`."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def issue(self, *, client: UUID, key_id: str, scopes: Collection[Scope], seconds: int) -> str:
        """Return a token that lives for so long."""
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
        """Read a token; None where it is not ours, changed, or over."""
        try:
            claims = jwt.decode(
                text, self._secret, algorithms=[_ALGORITHM], issuer=_ISSUER, options={"require": _NEEDED}
            )
            scopes = frozenset(Scope(name) for name in str(claims["scope"]).split())
            return Token(UUID(claims["sub"]), str(claims["kid"]), scopes & CLIENT_SCOPES)
        except (jwt.PyJWTError, ValueError, TypeError, AttributeError):
            return None
