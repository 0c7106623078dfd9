"""Clients (tenants): their plans, limits and pipelines."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any
from uuid import UUID

from imago.core.ai_usage.model import BudgetPolicy
from imago.core.clients.scopes import Scope
from imago.core.jobs.stages import PIPELINE_STAGES, Stage
from imago.core.lanes.model import PREMIUM, STANDARD

GIB = 2**30


class Plan(StrEnum):
    """A named set of default limits and a default lane."""

    FREE = "free"
    STANDARD = "standard"
    PREMIUM = "premium"


@dataclass(frozen=True)
class Limits:
    """A client's limits: requests per minute and burst, stored bytes and images, AI calls per calendar month."""

    requests_per_minute: int
    burst: int
    storage_bytes: int
    images: int
    ai_calls_per_month: int

    def overridden(self, overrides: Mapping[str, int | None]) -> "Limits":
        """Return these limits with some replaced; an override of None keeps the plan's limit."""
        return replace(self, **{name: value for name, value in overrides.items() if value is not None})


PLAN_LIMITS: Mapping[Plan, Limits] = {
    Plan.FREE: Limits(60, 20, 1 * GIB, 1_000, 500),
    Plan.STANDARD: Limits(600, 100, 50 * GIB, 100_000, 20_000),
    Plan.PREMIUM: Limits(6_000, 1_000, 1024 * GIB, 5_000_000, 500_000),
}
PLAN_LANES: Mapping[Plan, str] = {Plan.FREE: STANDARD, Plan.STANDARD: STANDARD, Plan.PREMIUM: PREMIUM}


@dataclass(frozen=True)
class Pipeline:
    """How a client's images are processed: the stages besides the thumbnail, and the languages.

    `ocr_languages` are Tesseract's names such as `fra`; empty means the server's `OCR_LANGUAGES`. The language of
    descriptions is ISO 639-1. A budget policy of None means the server's `AI_BUDGET_POLICY`.
    """

    stages: tuple[Stage, ...] = PIPELINE_STAGES
    ocr_languages: tuple[str, ...] = ()
    description_language: str = "en"
    ai_budget_policy: BudgetPolicy | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the pipeline as the database stores it."""
        return {
            "stages": [str(stage) for stage in self.stages],
            "ocr_languages": list(self.ocr_languages),
            "description_language": self.description_language,
            "ai_budget_policy": None if self.ai_budget_policy is None else str(self.ai_budget_policy),
        }


@dataclass(frozen=True)
class Client:
    """A tenant."""

    id: int
    uuid: UUID
    name: str
    plan: Plan
    scopes: frozenset[Scope]
    limits: Limits
    lane: str
    pipeline: Pipeline
    active: bool
    managed_by: str | None = None
    owner: str | None = None


@dataclass(frozen=True)
class Usage:
    """A client's stored bytes and images."""

    storage_bytes: int
    images: int
