"""The tokens of `/files/signed/{token}`: `<base64url(claims)>.<base64url(HMAC-SHA256)>`.

The claims are the method, the object key, the content type, the file name, the disposition and the expiry.
"""

import base64
import binascii
import hmac
from datetime import UTC, datetime

import orjson

from imago.core.times import utc_now
from imago.objects.store import UrlRequest

_VERSION = 1
_METHOD = "GET"


def make_token(request: UrlRequest, secret: str) -> str:
    """Return the token for a request."""
    claims = orjson.dumps(
        [
            _VERSION,
            _METHOD,
            request.key,
            request.content_type,
            request.filename,
            request.disposition,
            int(request.expires_at.timestamp()),
        ]
    )
    return f"{_encode(claims)}.{_encode(_mac(claims, secret))}"


def read_token(token: str, secret: str, *, now: datetime | None = None) -> UrlRequest | None:
    """Return the request of a token, or None if it is malformed, tampered with or expired."""
    head, _, tail = token.partition(".")
    claims, mac = _decode(head), _decode(tail)
    if claims is None or mac is None or not hmac.compare_digest(mac, _mac(claims, secret)):
        return None
    # The HMAC is valid, so Imago wrote the claims and they need no validation.
    version, method, key, content_type, filename, disposition, expires = orjson.loads(claims)
    expires_at = datetime.fromtimestamp(expires, UTC)
    if version != _VERSION or method != _METHOD or expires_at <= (now or utc_now()):
        return None
    return UrlRequest(key, content_type, filename, disposition, expires_at)


def private_cache(expires_at: datetime, *, now: datetime | None = None) -> str:
    """Return the Cache-Control of an object: only the client's own cache stores it, as long as its URL is valid."""
    return f"private, max-age={max(0, int((expires_at - (now or utc_now())).total_seconds()))}"


def _mac(claims: bytes, secret: str) -> bytes:
    return hmac.digest(secret.encode(), b"imago signed url\0" + claims, "sha256")


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes | None:
    try:
        # Strict, so that no two encodings of a token are valid.
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if _encode(data) == text else None
