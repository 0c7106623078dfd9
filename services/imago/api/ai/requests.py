"""Request schemas of the text provider."""

from marshmallow import ValidationError, fields, validate

from imago.api.http.requests import LanguageField, StrictSchema, storable, text_field
from imago.web.urls import MAX_URL_LENGTH

_MAX_DESCRIPTION = 10_000
_MAX_CONTEXT = 20_000


def _not_blank(text: str) -> None:
    if not text.strip():
        raise ValidationError("Must not be blank.")


class SummarizeBody(StrictSchema):
    """The page to summarize."""

    url = text_field(
        MAX_URL_LENGTH,
        min_length=1,
        required=True,
        metadata={"description": "A page of the public web: http or https, port 80, 443, 8080 or 8443"},
    )
    language = LanguageField(
        metadata={
            "description": "A code or name such as `fr`, `fr-CA`, `French` or `français`; by default the client's "
            "description language. A provider that can't translate (`offline/…`) keeps the page's language"
        },
    )


class DraftTaskBody(StrictSchema):
    """The description to draft a task from."""

    description = fields.String(
        required=True,
        validate=[validate.Length(min=1, max=_MAX_DESCRIPTION), storable, _not_blank],
        metadata={"description": "What is to be done, in a few sentences or as a list"},
    )
    context = text_field(
        _MAX_CONTEXT,
        load_default="",
        metadata={"description": "Background that supplements the description and does not override it"},
    )
