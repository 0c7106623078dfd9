"""The NATS connection."""

from pathlib import Path

from pydantic import Field, SecretStr

from imago.settings.base import CommaList, SettingsGroup


class NatsSettings(SettingsGroup):
    """NATS and JetStream."""

    nats_url: CommaList = ("nats://127.0.0.1:4222",)
    nats_user: str | None = None
    nats_password: SecretStr | None = None
    nats_token: SecretStr | None = None
    nats_creds_file: Path | None = None
    nats_tls_ca: Path | None = None
    nats_tls_cert: Path | None = None
    nats_tls_key: Path | None = None
    nats_replicas: int = Field(1, ge=1, le=5)
    nats_timeout: float = Field(5.0, gt=0)
    """Time limit for each JetStream response."""
