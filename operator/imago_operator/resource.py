"""The ImagoClient resource in Python: names, the spec with its defaults, and the client it stands for."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

from imago.core.clients.scopes import CLIENT_SCOPES
from imago.core.jobs.stages import PIPELINE_STAGES
from imago.core.lanes.model import DEDICATED

GROUP, VERSION, PLURAL, KIND = "imago.dev", "v1alpha1", "imagoclients", "ImagoClient"
FINALIZER = "imago.dev/finalizer"
# Kopf ignores annotations of its own prefix: with imago.dev, changes of `rotate` and `paused` would trigger nothing.
KOPF_PREFIX = "operator.imago.dev"

CLIENT_ID_LABEL = "imago.dev/client-id"
CLIENT_NAMESPACE_LABEL = "imago.dev/client-namespace"
CLIENT_NAME_LABEL = "imago.dev/client-name"
CLIENT_ANNOTATION = "imago.dev/client"
ROTATE_ANNOTATION = "imago.dev/rotate"
PAUSED_ANNOTATION = "imago.dev/paused"
ABANDON_ANNOTATION = "imago.dev/abandon"

Body = Mapping[str, Any]

_DURATION = re.compile(r"([0-9]+)([smhd])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_QUANTITY = re.compile(r"([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))(?:([eE][+-]?[0-9]+)|([KMGTPE]i|[numkMGTPE]))?")
_SUFFIXES = {
    **{name: Decimal(2) ** (10 * power) for power, name in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), 1)},
    **{name: Decimal(10) ** power for name, power in (("n", -9), ("u", -6), ("m", -3), ("k", 3), ("M", 6), ("G", 9))},
    **{name: Decimal(10) ** power for name, power in (("T", 12), ("P", 15), ("E", 18))},
}


class InvalidSpec(ValueError):
    """The spec violates the schema; the text is for its author."""


@dataclass(frozen=True)
class ResourceRef:
    """Identifies a resource; the uid distinguishes it from an earlier one of the same name."""

    namespace: str
    name: str
    uid: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True)
class ClientSpec:
    """The spec of a resource, with defaults."""

    installation: str
    client_id: UUID | None
    name: str
    plan: str
    scopes: tuple[str, ...]
    limits: Mapping[str, int]
    lane: str | None
    max_replicas: int
    stages: tuple[str, ...]
    ocr_languages: tuple[str, ...]
    description_language: str
    secret_name: str
    interval: timedelta | None
    grace: timedelta
    secret_labels: Mapping[str, str] = field(default_factory=dict)
    secret_annotations: Mapping[str, str] = field(default_factory=dict)
    suspended: bool = False
    erase: bool = False

    @property
    def dedicated(self) -> bool:
        """Whether the spec requests a dedicated lane."""
        return self.lane == DEDICATED


def ref_of(body: Body) -> ResourceRef:
    """Return the reference to a resource."""
    metadata = body["metadata"]
    return ResourceRef(metadata["namespace"], metadata["name"], metadata["uid"])


def annotation(body: Body, name: str) -> str | None:
    """Return an annotation, or None."""
    value = (body["metadata"].get("annotations") or {}).get(name)
    return None if value is None else str(value)


def has_flag(body: Body, name: str) -> bool:
    """Return whether an annotation is set to `true`."""
    return (annotation(body, name) or "").strip().lower() == "true"


def read_spec(body: Body) -> ClientSpec:
    """Read the spec; raise InvalidSpec."""
    spec, name = body.get("spec") or {}, body["metadata"]["name"]
    key = spec.get("apiKey") or {}
    rotation, template = key.get("rotation") or {}, key.get("secretTemplate") or {}
    pipeline, priority = spec.get("pipeline") or {}, spec.get("priority") or {}
    try:
        return ClientSpec(
            installation=spec.get("installation", "default"),
            client_id=UUID(spec["clientId"]) if "clientId" in spec else None,
            name=spec.get("displayName") or name,
            plan=spec.get("plan", "free"),
            scopes=tuple(spec.get("scopes") or sorted(str(scope) for scope in CLIENT_SCOPES)),
            limits=_limits(spec.get("quota") or {}, spec.get("rateLimit") or {}),
            lane=priority.get("lane"),
            max_replicas=int(priority.get("maxReplicas", 1)),
            stages=tuple(pipeline.get("stages") or (str(stage) for stage in PIPELINE_STAGES)),
            ocr_languages=tuple(pipeline.get("ocrLanguages") or ()),
            description_language=pipeline.get("descriptionLanguage", "en"),
            secret_name=key.get("secretName") or f"{name}-imago",
            interval=parse_duration(rotation["interval"]) if rotation.get("interval") else None,
            grace=parse_duration(rotation.get("gracePeriod", "24h")),
            secret_labels=dict(template.get("labels") or {}),
            secret_annotations=dict(template.get("annotations") or {}),
            suspended=bool(spec.get("suspended", False)),
            erase=spec.get("deletionPolicy", "Retain") == "Delete",
        )
    except (ValueError, TypeError) as error:
        raise InvalidSpec(str(error)) from None


def parse_duration(text: str) -> timedelta:
    """Parse a duration such as `90d`; raise ValueError."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"not a duration: {text!r}")
    return timedelta(seconds=int(match[1]) * _UNITS[match[2]])


def parse_quantity(value: str | int) -> int:
    """Parse a Kubernetes quantity of whole bytes such as `50Gi`; raise ValueError."""
    match = _QUANTITY.fullmatch(str(value))
    if match is None:
        raise ValueError(f"not a quantity: {value!r}")
    try:
        number = Decimal(match[1] + (match[2] or "")) * _SUFFIXES.get(match[3] or "", Decimal(1))
    except InvalidOperation:
        raise ValueError(f"not a quantity: {value!r}") from None
    if number != number.to_integral_value() or number < 0:
        raise ValueError(f"not a number of whole bytes: {value!r}")
    return int(number)


def client_uuid(body: Body, in_secret: UUID | None) -> UUID:
    """Return the client that a resource stands for.

    In this order: `spec.clientId`, `status.clientId` (which a restore drops), the id in the Secret (which a restore
    brings back), the resource's own uid.
    """
    if "clientId" in (body.get("spec") or {}):
        return UUID(body["spec"]["clientId"])
    bound = (body.get("status") or {}).get("clientId")
    if bound:
        return UUID(bound)
    return in_secret or UUID(body["metadata"]["uid"])


def owner_of(*, cluster: str, namespace_uid: str, name: str) -> str:
    """Return the owner stored with the client; the namespace's uid keeps it apart from those of other namespaces."""
    return f"{cluster}/{namespace_uid}/{name}"


def build_client(spec: ClientSpec, *, owner: str, lane: str | None, active: bool) -> dict[str, Any]:
    """Build the body of `PUT /auth/clients/{uuid}`; a lane of None means the default lane of the plan."""
    body: dict[str, Any] = {
        "name": spec.name,
        "plan": spec.plan,
        "scopes": sorted(spec.scopes),
        "limits": dict(spec.limits),
        "pipeline": {
            "stages": list(spec.stages),
            "ocr_languages": list(spec.ocr_languages),
            "description_language": spec.description_language,
        },
        "owner": owner,
        "active": active,
    }
    if lane is not None:
        body["lane"] = lane
    return body


def _limits(quota: Mapping[str, Any], rate: Mapping[str, Any]) -> dict[str, int]:
    named = {
        "storage_bytes": parse_quantity(quota["storage"]) if "storage" in quota else None,
        "images": quota.get("images"),
        "ai_calls_per_month": quota.get("aiCallsPerMonth"),
        "requests_per_minute": rate.get("requestsPerMinute"),
        "burst": rate.get("burst"),
    }
    return {name: int(value) for name, value in named.items() if value is not None}
