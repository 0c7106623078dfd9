"""The request of an upload, which is streamed and therefore has no schema that validates it."""

from imago.api.openapi.decorators import BINARY
from imago.api.uploads.idempotency import HEADER, MAX_LENGTH

UPLOAD_FORM = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {"file": {**BINARY, "description": "JPEG, PNG, GIF, WebP, TIFF, BMP, HEIC or AVIF"}},
            }
        }
    },
}

IDEMPOTENCY_KEY_PARAMETER = {
    "name": HEADER,
    "in": "header",
    "description": "An identifier of this upload that you choose. If the same upload is sent again with it, the first "
    "response is returned and no second image is created",
    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_LENGTH, "pattern": "^[!-~]+$"},
}
