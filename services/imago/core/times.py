"""Times as Imago writes them: aware, in UTC, ISO 8601 with `Z`."""

from datetime import UTC, datetime


def utc_now() -> datetime:
    """Return the present moment, aware and in UTC."""
    return datetime.now(UTC)


def iso_utc(moment: datetime) -> str:
    """Format an aware moment as ISO 8601 in UTC with `Z`, to the microsecond where it has any."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
