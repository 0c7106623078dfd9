"""Storage quotas: their error, and the check before an upload's body is read."""

from typing_extensions import TypedDict

from imago.core.clients.model import Limits, Usage
from imago.core.errors import QuotaExceeded


class QuotaUsage(TypedDict):
    """A client's storage, including thumbnails, and its limits."""

    storage_used_bytes: int
    storage_limit_bytes: int
    images_used: int
    images_limit: int


def quota_usage(usage: Usage, limits: Limits) -> QuotaUsage:
    """Return a client's use of its quota, as lists and the error report it."""
    return {
        "storage_used_bytes": usage.storage_bytes,
        "storage_limit_bytes": limits.storage_bytes,
        "images_used": usage.images,
        "images_limit": limits.images,
    }


def quota_exceeded(usage: Usage, limits: Limits, *, needed_bytes: int | None = None) -> QuotaExceeded:
    """Return the error for an upload that does not fit; `needed_bytes` is its size if it is known."""
    extra: dict[str, object] = dict(quota_usage(usage, limits))
    if needed_bytes is not None:
        extra["needed_bytes"] = needed_bytes
    exceeded = "images" if usage.images >= limits.images else "storage"
    return QuotaExceeded(f"The upload would exceed this client's {exceeded} quota.", extra=extra)


def require_quota_left(usage: Usage, limits: Limits) -> None:
    """Raise QuotaExceeded if not even one byte more would fit; the upload is charged when it is committed."""
    if usage.images >= limits.images or usage.storage_bytes >= limits.storage_bytes:
        raise quota_exceeded(usage, limits)
