"""Platform keys, and the secrets behind clients' keys and tokens."""

from pydantic import SecretStr, field_validator

from imago.settings.base import SettingsGroup

# A secret that signs tokens must be at least as long as HS256's digest, in bytes (RFC 7518, section 3.2): a shorter one
# can be guessed.
MIN_TOKEN_SECRET_BYTES = 32


class AuthSettings(SettingsGroup):
    """Keys and secrets; `imago dev` generates those that are unset and stores them in its data directory."""

    admin_api_key: SecretStr | None = None
    operator_api_key: SecretStr | None = None
    jwt_secret_key: SecretStr | None = None
    """Signs tokens; without it the server issues none."""
    api_key_pepper: SecretStr | None = None
    """Mixed into the digests of clients' keys."""

    @field_validator("jwt_secret_key")
    @classmethod
    def _long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value().encode()) < MIN_TOKEN_SECRET_BYTES:
            raise ValueError(f"must have at least {MIN_TOKEN_SECRET_BYTES} bytes, for example `openssl rand -hex 32`")
        return value
