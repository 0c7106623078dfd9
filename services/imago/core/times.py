"""Times: always aware, in UTC, and written as ISO 8601 with `Z`."""

from datetime import UTC, datetime


def utc_now() -> datetime:
    """Return the current time, aware and in UTC."""
    return datetime.now(UTC)


def iso_utc(moment: datetime) -> str:
    """Format an aware time as ISO 8601 in UTC with `Z`, with microseconds if it has any."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
