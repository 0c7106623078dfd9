"""Whose client it is: the operator's clients have an owner, and only that owner's writes are taken."""

from datetime import datetime

from imago.core.clients.model import Client
from imago.core.errors import ClientOwned, Conflict

OPERATOR = "operator"


def managed_by_operator(client: Client) -> bool:
    """Tell whether the operator may see and change a client; all others are the administrator's alone."""
    return client.managed_by == OPERATOR


def refuse_foreign(owner: str | None, asking: str) -> None:
    """Raise ClientOwned unless the client is the asking owner's; one without an owner is transferred first."""
    if owner != asking:
        # Whose it is instead is not told: it names another namespace.
        raise ClientOwned("The client belongs to another owner; an administrator can transfer it.")


def refuse_while_erasing(requested_at: datetime | None) -> None:
    """Raise Conflict where a client is being erased: nothing brings it back."""
    if requested_at is not None:
        raise Conflict("The client is being erased.")
