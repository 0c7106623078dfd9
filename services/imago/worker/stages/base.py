"""What a stage is to the runner, and what stages share."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from imago.core.ai_usage.model import CallContext, CallKind
from imago.core.images.results import StageResult
from imago.core.jobs.claims import Claim
from imago.imaging.sandbox.pool import ChildPool
from imago.objects.store import ObjectStore
from imago.settings import Settings


@dataclass(frozen=True)
class Outcome:
    """What a stage found out; `thumbnail_key` is where it put a thumbnail."""

    result: StageResult
    thumbnail_key: str | None = None


class StageWork(Protocol):
    """The work of one stage; raises a `StageFailure` where it can't be done."""

    async def run(self, claim: Claim, directory: Path) -> Outcome:
        """Do the work; `directory` is a temporary folder of this try."""
        ...


def call_context(claim: Claim, kind: CallKind, settings: Settings) -> CallContext:
    """Return for whom and for what a provider is called in the work of a claim."""
    return CallContext(
        client_id=claim.image.client_id,
        kind=kind,
        ai_calls_per_month=claim.ai_calls_per_month,
        policy=claim.ai_budget_policy or settings.ai_budget_policy,
        image_id=claim.image.id,
    )


@dataclass(frozen=True)
class Tools:
    """What stages work with."""

    settings: Settings
    store: ObjectStore
    children: ChildPool
