"""`imago migrate`, `imago topology` and `imago audit`."""

import dataclasses
import json
import os
from pathlib import Path

import click

from imago.bootstrap.data_dir import SECRETS, read_json
from imago.bootstrap.dev_settings import stored_environment
from imago.bootstrap.parts import database, nats_connection, object_store
from imago.core.clients.queries import dedicated_lanes
from imago.db.schema import current_revision
from imago.nats.streams import StreamOptions, ensure_streams
from imago.runtime.startup import StartupError
from imago.settings import Settings, read_environment

# Building an index on a large table is slow, and so is waiting for another replica that builds it.
MIGRATION_SECONDS = 3600.0


async def migrate_database(settings: Settings) -> None:
    """Migrate the database to this version's schema and print its revision."""
    # Alembic is slow to import, and pods that only wait for the schema import this module too.
    from imago.db.migrations import upgrade

    async with database(settings, schema_timeout=None, statement_timeout=MIGRATION_SECONDS) as db:
        await upgrade(db, runtime_role=settings.database_runtime_role)
        click.echo(f"schema {await current_revision(db)}")


async def wait_for_database(settings: Settings, *, timeout: float) -> None:
    """Wait until the database has the schema that this version needs; raise StartupError.

    Pods that start together with the migration wait here instead of crashing until it is done.
    """
    async with database(settings, schema_timeout=timeout) as db:
        click.echo(f"schema {await current_revision(db)}")


async def ensure_topology(settings: Settings) -> None:
    """Create and update the streams and consumers, including those of dedicated lanes."""
    async with database(settings) as db, nats_connection(settings, name="api") as nats:
        await nats.wait_connected(settings.nats_timeout)
        options = StreamOptions.of(settings)
        await ensure_streams(nats.js, lanes=await dedicated_lanes(db), options=options)
        click.echo("streams and consumers are up to date")


def stored_settings(settings: Settings, data_dir: Path) -> Settings:
    """Return the settings of the environment, or those of `imago dev`'s data directory if they name no other database.

    A copy of `.env.example` names the default database, and `imago dev` ignores that. Raises StartupError if there is
    neither.
    """
    if settings.database_url != Settings.model_fields["database_url"].default:
        return settings
    secrets = read_json(data_dir / SECRETS)
    if "SIGNED_URL_SECRET" not in secrets or not (data_dir / "imago.db").is_file():
        if "database_url" in settings.model_fields_set:
            return settings
        raise StartupError(f"no database: set DATABASE_URL, or --data-dir to `imago dev`'s; {data_dir} has no database")
    os.environ.update(stored_environment(data_dir, secrets, settings))
    return read_environment()


async def audit_storage(settings: Settings) -> None:
    """Compare storage with the database and print the differences as JSON."""
    from imago.maintenance.storage_auditor import StorageAuditor

    async with database(settings) as db, object_store(settings) as objects:
        findings = await StorageAuditor(settings, db, objects).compare()
    click.echo(json.dumps(dataclasses.asdict(findings), indent=2))
