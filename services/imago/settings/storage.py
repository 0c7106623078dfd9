"""The object store."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator

from imago.settings.base import SettingsGroup


class StorageSettings(SettingsGroup):
    """Local files or S3, and signed URLs."""

    storage_backend: Literal["local", "s3"] = "local"
    storage_dir: Path = Path("data/objects")
    s3_bucket: str | None = None
    s3_endpoint_url: str | None = None
    s3_public_endpoint_url: str | None = None
    s3_region: str = "us-east-1"
    s3_access_key: SecretStr | None = None
    s3_secret_key: SecretStr | None = None
    s3_prefix: str = ""
    s3_addressing: Literal["path", "virtual"] = "path"
    s3_timeout: float = Field(30.0, gt=0)
    """Time limit for connecting to S3 and for each read or write."""
    signed_url_secret: SecretStr | None = None
    """Signs URLs of local storage; `imago dev` generates it if unset."""
    signed_url_ttl: int = Field(3600, ge=1, le=7 * 24 * 3600)

    @model_validator(mode="after")
    def _bucket_named(self) -> Self:
        if self.storage_backend == "s3" and not self.s3_bucket:
            raise ValueError("STORAGE_BACKEND=s3 needs S3_BUCKET")
        return self
