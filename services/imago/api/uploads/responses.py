"""The response to an upload."""

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

from typing_extensions import TypedDict

from imago.api.http.json import StoredJson
from imago.core.jobs.stages import ImageStatus


class UploadResponse(TypedDict):
    """An accepted upload."""

    id: int
    uuid: Annotated[str, StoredJson(UUID)]
    original_name: str
    status: Annotated[str, StoredJson(ImageStatus)]
    duplicate_of: int | None
    """The id of an earlier image of this client with the same bytes."""
    message: str
    """For people, in the client's description language if that is French, else in English."""


_MESSAGES = {
    "en": "The image is stored and queued for processing.",
    "fr": "L'image est enregistrée et attend son traitement.",
}


def upload_response(accepted: Mapping[str, Any], *, language: str) -> UploadResponse:
    """Return an accepted upload, which is stored as JSON under its Idempotency-Key, with a message in a language."""
    return {
        "id": accepted["id"],
        "uuid": accepted["uuid"],
        "original_name": accepted["original_name"],
        "status": accepted["status"],
        "duplicate_of": accepted["duplicate_of"],
        "message": _MESSAGES.get(language, _MESSAGES["en"]),
    }
