"""What one pass over a resource carries along, and what it comes to."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from imago_operator.conditions import Outcome, Reason
from imago_operator.context import Context
from imago_operator.kubernetes import Object
from imago_operator.resource import ClientSpec, Ref


@dataclass(frozen=True)
class Result:
    """How a pass ended: its reason, and seconds after which another has to follow; `failed` asks for a backoff."""

    reason: Reason = Reason.RECONCILED
    again: float | None = None
    failed: bool = False


@dataclass
class Pass:
    """One pass: what it is about, and what it found so far."""

    context: Context
    ref: Ref
    body: Object
    spec: ClientSpec
    outcome: Outcome
    owner: str
    now: datetime
    client: UUID = field(default=UUID(int=0))
    again: float | None = None

    @property
    def status(self) -> dict[str, Any]:
        """The status as it was before."""
        return self.body.get("status") or {}

    @property
    def binds(self) -> bool:
        """Whether this pass is the first to tie the resource to its client."""
        return bool(self.status.get("clientId") != str(self.client))

    def come_back(self, seconds: float) -> None:
        """Have another pass follow after so many seconds, or sooner."""
        self.again = seconds if self.again is None else min(self.again, seconds)

    def tell(self, reason: str, message: str, *, warning: bool = False) -> None:
        """Post an Event about the resource."""
        self.context.announce(self.body, warning=warning, reason=reason, message=message)
