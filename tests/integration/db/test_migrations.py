"""Migrations: their numbering, processes that wait for them, and a release rolled back from a newer schema."""

import asyncio
import sys
from pathlib import Path

import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory

from devtools.postgres import OWNER
from imago.db import migrations
from imago.db.engine import Database
from imago.db.migrations import upgrade
from imago.db.schema import current_revision, head_revision, known_revisions


def test_migration_files_are_numbered_in_the_order_of_alembic() -> None:
    """`imago.db.schema` derives the order from the file names."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    scripts = list(ScriptDirectory.from_config(config).walk_revisions("base", "head"))
    assert known_revisions() == [script.revision for script in reversed(scripts)]


async def set_revision(db: Database, revision: str) -> None:
    async with db.engine.begin() as connection:
        await connection.execute(sa.text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})


async def test_migrating_a_newer_schema_changes_nothing(db: Database) -> None:
    owner = db if db.is_sqlite else Database(db.engine.url.set(username=OWNER).render_as_string(hide_password=False))
    try:
        await set_revision(owner, "9999_newer")
        await upgrade(owner)
        assert await current_revision(owner) == "9999_newer"
    finally:
        await owner.close()


async def imago(url: str, *arguments: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "imago.cli.main", *arguments),
        env={"DATABASE_URL": url, "PATH": "/usr/bin:/bin"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


async def test_waiting_for_the_schema_ends_after_another_process_has_migrated(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/imago.db"
    waiting = asyncio.create_task(imago(url, "migrate", "--wait", "--timeout", "60"))
    assert await imago(url, "migrate") == (0, f"schema {head_revision()}\n")
    assert await waiting == (0, f"schema {head_revision()}\n")


async def test_waiting_times_out_with_an_error_of_one_line(tmp_path: Path) -> None:
    path = tmp_path / "imago.db"
    code, output = await imago(f"sqlite+aiosqlite:///{path}", "migrate", "--wait", "--timeout", "0.5")
    assert (code, output) == (
        1,
        "imago: the database schema is out of date: run `imago migrate`\n",
    )
