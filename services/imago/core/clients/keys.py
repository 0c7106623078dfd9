"""API keys: `imago_<key id>_<secret>_<crc32>`, in base62.

The checksum lets scanners find leaked keys, and rejects a mistyped key without a database query. `PUT …/keys` sends
SHA-256(secret); the database stores HMAC-SHA256(pepper, that), so that a stolen table is useless without the pepper.
"""

import hashlib
import hmac
import re
import secrets
import zlib
from dataclasses import dataclass

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
KEY_ID_LENGTH = 8
# 256 bits need 43 base62 digits (62^43 > 2^256), a CRC-32 needs 6.
SECRET_LENGTH = 43
CHECKSUM_LENGTH = 6

_PATTERN = re.compile(
    rf"imago_([0-9A-Za-z]{{{KEY_ID_LENGTH}}})_([0-9A-Za-z]{{{SECRET_LENGTH}}})_([0-9A-Za-z]{{{CHECKSUM_LENGTH}}})",
    re.ASCII,
)
_KEY_ID = re.compile(rf"[0-9A-Za-z]{{{KEY_ID_LENGTH}}}", re.ASCII)


@dataclass(frozen=True, repr=False)
class ApiKey:
    """A key in plain text; its repr hides the secret."""

    key_id: str
    secret: str

    def __repr__(self) -> str:
        return f"ApiKey(key_id={self.key_id!r})"

    def reveal(self) -> str:
        """Return the key as clients send it; only for the one response that shows it."""
        return f"imago_{self.key_id}_{self.secret}_{_checksum(self.key_id, self.secret)}"

    @property
    def wire_digest(self) -> bytes:
        """SHA-256 of the secret, 32 bytes: what the operator registers."""
        return hashlib.sha256(self.secret.encode()).digest()


def generate() -> ApiKey:
    """Return a new random key."""
    key_id = "".join(secrets.choice(ALPHABET) for _ in range(KEY_ID_LENGTH))
    return ApiKey(key_id, _base62(secrets.randbits(256), SECRET_LENGTH))


def parse(text: str) -> ApiKey | None:
    """Parse a key as clients send it; return None if the format or the checksum is wrong."""
    match = _PATTERN.fullmatch(text)
    if match is None or not hmac.compare_digest(_checksum(match[1], match[2]), match[3]):
        return None
    return ApiKey(match[1], match[2])


def valid_key_id(text: str) -> bool:
    """Return whether a text has the format of a key id."""
    return _KEY_ID.fullmatch(text) is not None


def digest_at_rest(wire_digest: bytes, pepper: str) -> bytes:
    """Return the digest that the database stores: HMAC-SHA256 of the wire digest under the pepper, 32 bytes."""
    return hmac.digest(pepper.encode(), wire_digest, "sha256")


def digests_equal(one: bytes, other: bytes) -> bool:
    """Compare two digests in constant time."""
    return hmac.compare_digest(one, other)


def _checksum(key_id: str, secret: str) -> str:
    return _base62(zlib.crc32(f"imago_{key_id}_{secret}".encode()), CHECKSUM_LENGTH)


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits))
