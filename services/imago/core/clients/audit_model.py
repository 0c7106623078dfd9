"""The audit log: which administrative acts are written down, and who did them."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID


class Action(StrEnum):
    """An administrative act."""

    CLIENT_CREATED = "client.created"
    CLIENT_CHANGED = "client.changed"
    CLIENT_REPLACED = "client.replaced"
    CLIENT_TRANSFERRED = "client.transferred"
    CLIENT_DEACTIVATED = "client.deactivated"
    ERASURE_REQUESTED = "client.erasure-requested"
    CLIENT_ERASED = "client.erased"
    KEY_REGISTERED = "key.registered"
    KEY_CHANGED = "key.changed"
    KEY_REVOKED = "key.revoked"
    KEY_ROTATED = "key.rotated"
    LETTERS_REPLAYED = "dead-letters.replayed"


@dataclass(frozen=True)
class Actor:
    """Who acts: `admin`, `operator`, or `imago` itself; and the request it came by, if one did."""

    name: str
    request_id: str | None = None


IMAGO = Actor("imago")


@dataclass(frozen=True)
class AuditRecord:
    """An act, as it was written down; `details` never holds a secret."""

    id: int
    at: datetime
    actor: str
    action: Action
    client: UUID | None
    request_id: str | None
    details: dict[str, Any]
