"""Quotas: what a refusal says, and the early check before a body is read."""

from imago.core.clients.model import Limits, Usage
from imago.core.errors import QuotaExceeded


def quota_json(usage: Usage, limits: Limits) -> dict[str, int]:
    """Return the `quota` object of lists and of refusals."""
    return {
        "storage_used_bytes": usage.storage_bytes,
        "storage_limit_bytes": limits.storage_bytes,
        "images_used": usage.images,
        "images_limit": limits.images,
    }


def quota_exceeded(usage: Usage, limits: Limits, *, needed_bytes: int | None = None) -> QuotaExceeded:
    """Build the refusal of an upload that doesn't fit; `needed_bytes` is its size where it is known."""
    extra: dict[str, object] = dict(quota_json(usage, limits))
    if needed_bytes is not None:
        extra["needed_bytes"] = needed_bytes
    what = "images" if usage.images >= limits.images else "storage"
    return QuotaExceeded(f"The upload would pass this client's {what} quota.", extra=extra)


def refuse_if_used_up(usage: Usage, limits: Limits) -> None:
    """Refuse before the body is read when not even one byte more would fit; the exact charge comes at the commit."""
    if usage.images >= limits.images or usage.storage_bytes >= limits.storage_bytes:
        raise quota_exceeded(usage, limits)
