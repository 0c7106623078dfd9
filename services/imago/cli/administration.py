"""`imago migrate`, `imago topology` and `imago audit`."""

import dataclasses
import json

import click

from imago.bootstrap.parts import database, nats_connection, store
from imago.core.clients import queries as clients
from imago.db.schema import current_revision, wait_for_schema
from imago.nats.streams import StreamOptions, ensure_streams
from imago.settings import Settings

# An index on many rows takes its time, and so does waiting for another replica that is building it.
MIGRATION_SECONDS = 3600.0


async def migrate_database(settings: Settings) -> None:
    """Bring the database to this version's schema and say where it is."""
    # As Alembic takes a while to import, and others wait for the schema by this module.
    from imago.db.migrations import upgrade

    async with database(settings, wait=False, timeout=MIGRATION_SECONDS) as db:
        await upgrade(db, runtime_role=settings.database_runtime_role)
        click.echo(f"schema {await current_revision(db)}")


async def wait_for_database(settings: Settings, *, timeout: float) -> None:
    """Wait until the database has the schema that this version needs; raise TimeoutError.

    What starts beside the migration waits like this, instead of failing until it is done.
    """
    async with database(settings, wait=False) as db:
        await wait_for_schema(db, timeout=timeout)
        click.echo(f"schema {await current_revision(db)}")


async def ensure_topology(settings: Settings) -> None:
    """Create and update the streams, those of clients' own lanes too."""
    async with database(settings) as db, nats_connection(settings, name="api") as nats:
        await nats.wait_connected(settings.nats_timeout)
        lanes = await clients.dedicated_lanes(db)
        options = StreamOptions(replicas=settings.nats_replicas, ack_wait=settings.ack_wait)
        await ensure_streams(nats.js, lanes=lanes, options=options)
        click.echo("streams and consumers are as they should be")


async def audit_storage(settings: Settings) -> None:
    """Compare storage with the database and print what was found as JSON."""
    from imago.maintenance.storage_auditor import StorageAuditor

    async with database(settings) as db, store(settings) as objects:
        findings = await StorageAuditor(settings, db, objects).compare()
    click.echo(json.dumps(dataclasses.asdict(findings), indent=2))
