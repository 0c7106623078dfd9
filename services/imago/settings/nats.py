"""The NATS connection."""

from pydantic import Field, SecretStr, field_validator

from imago.settings.base import CommaList, ExistingFile, Seconds, SettingsGroup, check_url


class NatsSettings(SettingsGroup):
    """NATS and JetStream."""

    nats_url: CommaList = ("nats://127.0.0.1:4222",)
    nats_user: str | None = None
    nats_password: SecretStr | None = None
    nats_token: SecretStr | None = None
    nats_creds_file: ExistingFile | None = None
    nats_tls_ca: ExistingFile | None = None
    nats_tls_cert: ExistingFile | None = None
    nats_tls_key: ExistingFile | None = None
    nats_replicas: int = Field(1, ge=1, le=5)
    nats_timeout: Seconds = 5.0
    """Time limit for each JetStream response."""

    @field_validator("nats_url")
    @classmethod
    def _servers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("names no server")
        for url in value:
            # The client adds the scheme to `host:port`.
            check_url(url if "://" in url else f"nats://{url}", ("nats", "tls", "ws", "wss"))
        return value
