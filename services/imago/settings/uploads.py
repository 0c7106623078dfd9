"""Uploads."""

from typing import Self

from pydantic import Field, model_validator

from imago.settings.base import Count, Megabytes, Seconds, SettingsGroup

MB = 2**20


class UploadSettings(SettingsGroup):
    """Sizes, timeouts, concurrency and idempotency of uploads."""

    uploads_per_client: Count = 32
    """Concurrent uploads of one client in each process."""
    upload_mb_per_client: Megabytes = 1024
    """Total size of one client's concurrent uploads in each process."""
    max_upload_size_mb: Megabytes = 50
    max_image_pixels: int = Field(210_000_000, ge=1, le=2**40)
    """The default takes the photos of phones with 200 megapixels."""
    max_decode_memory_mb: Megabytes = 560
    """The memory that decoding an image may take, as its header tells; a child process takes 80 MB more."""
    upload_idle_timeout: Seconds = 30.0
    """The longest pause between two reads of an upload."""
    upload_min_rate: int = Field(1024, ge=0, le=2**40)
    """Bytes per second that an upload must average after its first 30 seconds."""
    upload_total_timeout: Seconds = 900.0
    intent_ttl: Seconds = 1200.0
    """Lifetime of an intent; longer than `upload_total_timeout`, or a slow upload would lose its object."""
    idempotency_ttl: int = Field(24 * 3600, ge=60, le=366 * 24 * 3600)
    idempotency_lease: Seconds = 30.0
    """Seconds after which the Idempotency-Key of a killed upload can be used again."""

    @property
    def max_upload_bytes(self) -> int:
        """The largest file accepted, in bytes."""
        return self.max_upload_size_mb * MB

    @property
    def max_decode_bytes(self) -> int:
        """The most memory that decoding an image may take, in bytes."""
        return self.max_decode_memory_mb * MB

    @model_validator(mode="after")
    def _intents_outlive_uploads(self) -> Self:
        if self.intent_ttl <= self.upload_total_timeout:
            raise ValueError("INTENT_TTL must be longer than UPLOAD_TOTAL_TIMEOUT")
        return self
