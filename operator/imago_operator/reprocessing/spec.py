"""The ImagoReprocess resource in Python: its spec with defaults, and the request for its job."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from imago_operator.resource import Body, InvalidSpec, parse_duration

REPROCESS_PLURAL, REPROCESS_KIND = "imagoreprocesses", "ImagoReprocess"

# Members of `spec.selection` that the API has under another name; `clients`, `clientIds` and `clientSelector` are the
# operator's.
_FILTERS = {
    "stages": "stages",
    "createdFrom": "created_from",
    "createdTo": "created_to",
    "takenFrom": "taken_from",
    "takenTo": "taken_to",
    "status": "status",
    "tag": "tag",
    "engineNot": "engine_not",
    "modelNot": "model_not",
}


@dataclass(frozen=True)
class ReprocessSpec:
    """The spec of a resource, with defaults.

    `clients` are names of ImagoClients, and `labels` are those that they must have.
    """

    filters: Mapping[str, Any]
    clients: tuple[str, ...]
    client_ids: tuple[UUID, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    images_per_minute: int = 60
    suspended: bool = False
    ttl: timedelta | None = None

    @property
    def names_no_client(self) -> bool:
        """Whether the spec leaves open which clients it means."""
        return not (self.clients or self.client_ids or self.labels)


def read_reprocess_spec(body: Body) -> ReprocessSpec:
    """Read the spec; raise InvalidSpec."""
    spec = body.get("spec") or {}
    selection = spec.get("selection") or {}
    try:
        ttl = spec.get("ttlAfterFinished")
        return ReprocessSpec(
            filters={name: selection[member] for member, name in _FILTERS.items() if member in selection},
            clients=tuple(selection.get("clients") or ()),
            client_ids=tuple(UUID(client) for client in selection.get("clientIds") or ()),
            labels=dict((selection.get("clientSelector") or {}).get("matchLabels") or {}),
            images_per_minute=int(spec.get("imagesPerMinute", 60)),
            suspended=bool(spec.get("suspended", False)),
            ttl=None if ttl is None else parse_duration(ttl),
        )
    except (ValueError, TypeError) as error:
        raise InvalidSpec(str(error)) from None


def build_job(spec: ReprocessSpec, *, uid: str, clients: tuple[UUID, ...] | None) -> dict[str, Any]:
    """Build the body of `POST /admin/reprocess-jobs`; with `clients` None, the job selects all clients."""
    selection = dict(spec.filters)
    if clients is not None:
        selection["clients"] = [str(client) for client in clients]
    return {
        "selection": selection,
        "images_per_minute": spec.images_per_minute,
        "suspended": spec.suspended,
        "uuid": uid,
    }
