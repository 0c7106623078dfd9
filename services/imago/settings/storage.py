"""The object store."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator

from imago.settings.base import HeaderSecret, HttpUrl, LowerCase, Seconds, SettingsGroup


class StorageSettings(SettingsGroup):
    """Local files or S3, and signed URLs."""

    storage_backend: Annotated[Literal["local", "s3"], LowerCase] = "local"
    storage_dir: Path = Path("data/objects")
    s3_bucket: str | None = Field(None, pattern=r"^([A-Za-z0-9._-]{1,255}|arn:\S+)$")
    s3_endpoint_url: HttpUrl | None = None
    s3_public_endpoint_url: HttpUrl | None = None
    s3_region: str = Field("us-east-1", pattern=r"^[A-Za-z0-9-]{1,64}$")
    s3_access_key: HeaderSecret | None = None
    s3_secret_key: HeaderSecret | None = None
    s3_prefix: str = ""
    s3_addressing: Annotated[Literal["path", "virtual"], LowerCase] = "path"
    s3_timeout: Seconds = 30.0
    """Time limit for connecting to S3 and for each read or write."""
    signed_url_secret: SecretStr | None = None
    """Signs URLs of local storage; `imago dev` generates it if unset."""
    # S3 signs for at most seven days, and the expiry is rounded up to a quarter of an hour.
    signed_url_ttl: int = Field(3600, ge=1, le=7 * 24 * 3600 - 900)

    @model_validator(mode="after")
    def _bucket_named(self) -> Self:
        if self.storage_backend == "s3" and not self.s3_bucket:
            raise ValueError("STORAGE_BACKEND=s3 needs S3_BUCKET")
        return self
