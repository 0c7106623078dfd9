"""Ownership of clients: the operator's clients have an owner, and only that owner's writes are accepted."""

from datetime import datetime

from imago.core.clients.model import Client
from imago.core.errors import ClientOwned, Conflict

OPERATOR = "operator"

# As the operator writes it; a client with another owner would have none that could ever change it.
# `\s` is not the same in Python, which adds \x1c to \x1f and \x85, and in JSON Schema, which adds \ufeff.
_PART = r"[^/\s\x1c-\x1f\x85\ufeff]+"
OWNER_PATTERN = rf"^{_PART}/{_PART}/[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"
OWNER_FORM = "<cluster id>/<namespace uid>/<name>"


def managed_by_operator(client: Client) -> bool:
    """Return whether the operator may see and change a client; all others are only the administrator's."""
    return client.managed_by == OPERATOR


def require_owner(current: str | None, claimed: str) -> None:
    """Raise ClientOwned unless the client belongs to the claimed owner; one without an owner must be transferred."""
    if current != claimed:
        # The message does not name the owner, which would reveal another namespace.
        raise ClientOwned("The client belongs to another owner; an administrator can transfer it.")


def require_not_erasing(requested_at: datetime | None) -> None:
    """Raise Conflict if the client is being erased, which cannot be undone."""
    if requested_at is not None:
        raise Conflict("The client is being erased.")
