"""Request schemas about tokens."""

from marshmallow import fields, validate

from imago.api.auth.tokens import DEFAULT_SECONDS, MAX_SECONDS
from imago.api.http.requests import StrictSchema
from imago.core.clients.scopes import CLIENT_SCOPES


class TokenBody(StrictSchema):
    """The scopes of a token, at most those of its key, and its lifetime in seconds."""

    scopes = fields.List(
        fields.String(validate=validate.OneOf(sorted(str(scope) for scope in CLIENT_SCOPES))),
        validate=validate.Length(min=1),
    )
    expires_in = fields.Integer(
        strict=True, load_default=DEFAULT_SECONDS, validate=validate.Range(min=1, max=MAX_SECONDS)
    )
