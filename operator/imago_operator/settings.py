"""The operator's settings: every environment variable it reads, except the `NATS_*` ones of `imago.settings`."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AliasChoices, Field, ValidationError, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from imago.runtime.startup import StartupError
from imago.settings import Settings, describe, load_settings
from imago.settings.base import CommaList, Count, HeaderSecret, HttpUrl, LowerCase, Seconds, SettingsGroup

ALL_NAMESPACES = "*"

_PREFIX = "OPERATOR_"


def _plain(name: str) -> AliasChoices:
    # Variables without a prefix mean the same in every process of Imago.
    return AliasChoices(name.lower(), name)


class OperatorSettings(SettingsGroup):
    """The operator's configuration; `OperatorSettings()` reads the environment, tests pass arguments."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX)

    api_key: HeaderSecret
    """Imago's `OPERATOR_API_KEY` with the scope `clients:manage`, not the administrator's key."""
    api_url: HttpUrl
    """The URL of Imago's API within the cluster."""
    public_url: HttpUrl | None = None
    """The `url` in Secrets; unset: `api_url`."""
    installation: str = "default"
    """Resources with another `spec.installation` are left to other operators."""
    cluster_id: str | None = None
    """The first part of every owner; unset: the uid of the namespace kube-system."""
    watch_namespaces: CommaList
    """The namespaces to watch; `*` for all."""
    release_namespace: str = "default"
    """The namespace for the workers of dedicated lanes."""

    dedicated_enabled: bool = False
    dedicated_max_replicas: Count = 4
    dedicated_templates: Path | None = None
    """The directory with `exif.yaml`, `ocr.yaml` and `vision.yaml`, as the chart renders them."""

    resync_seconds: Seconds = 30.0
    """The interval of reconciling each resource, so that a deleted Secret is restored within 60 s."""
    sweep_seconds: Seconds = 60.0
    """The interval of ensuring streams and deleting orphaned workers."""
    parallel: Count = 8
    """Concurrent requests to Imago's API."""
    timeout: Seconds = 10.0
    """Seconds until a request to Imago's API or to Kubernetes times out."""
    liveness_port: int = Field(8080, ge=1, le=65535)

    host: str = Field("127.0.0.1", validation_alias=_plain("HOST"))
    metrics_port: int | None = Field(None, ge=1, le=65535, validation_alias=_plain("METRICS_PORT"))
    debug: bool = Field(False, validation_alias=_plain("DEBUG"))
    log_level: Annotated[Literal["debug", "info", "warning", "error"], LowerCase] = Field(
        "info", validation_alias=_plain("LOG_LEVEL")
    )

    @field_validator("watch_namespaces")
    @classmethod
    def _some(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or (ALL_NAMESPACES in value and len(value) > 1):
            raise ValueError("expected namespaces separated by commas, or *")
        return value

    @field_validator("api_url", "public_url")
    @classmethod
    def _no_slash(cls, value: str | None) -> str | None:
        return value.rstrip("/") if value else value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.dedicated_enabled and self.dedicated_templates is None:
            raise ValueError("OPERATOR_DEDICATED_ENABLED needs OPERATOR_DEDICATED_TEMPLATES")
        return self

    @property
    def watches_all_namespaces(self) -> bool:
        """Whether all namespaces are watched."""
        return ALL_NAMESPACES in self.watch_namespaces

    @property
    def url(self) -> str:
        """The `url` in Secrets."""
        return self.public_url or self.api_url


def settings_names() -> list[str]:
    """Return the names of the operator's variables."""
    fields = OperatorSettings.model_fields
    return [name.upper() if field.validation_alias else f"{_PREFIX}{name}".upper() for name, field in fields.items()]


def load_operator_settings() -> tuple[OperatorSettings, Settings]:
    """Read the operator's settings and those of Imago from `.env` and the environment; raise StartupError."""
    shared = load_settings(settings_names())
    try:
        return OperatorSettings(), shared
    except ValidationError as error:
        raise StartupError(describe(error, prefix=_PREFIX)) from None
