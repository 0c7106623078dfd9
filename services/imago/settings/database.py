"""The database connection."""

from pydantic import Field

from imago.settings.base import Seconds, SettingsGroup


class DatabaseSettings(SettingsGroup):
    """PostgreSQL or SQLite."""

    database_url: str = "sqlite+aiosqlite:///data/imago.db"
    database_runtime_role: str | None = None
    """PostgreSQL role that `imago migrate` lets use the tables; API and workers log in as it and own nothing."""
    database_pool_size: int = Field(10, ge=1, le=10_000)
    database_timeout: Seconds = 10.0
    """Time limit for getting a connection and for each statement."""
