"""A SQLite database with damaged pages."""

import os
from pathlib import Path

import pytest

from imago.db.engine import Database, DatabaseCorrupt

PAGE = 4096


@pytest.fixture
def file(sqlite_template: Path, tmp_path: Path) -> Path:
    path = tmp_path / "imago.db"
    path.write_bytes(sqlite_template.read_bytes())
    return path


def damage(file: Path, page: int) -> None:
    data = bytearray(file.read_bytes())
    data[page * PAGE : (page + 1) * PAGE] = os.urandom(PAGE)
    file.write_bytes(data)


@pytest.mark.parametrize("part", [0, 0.1, 0.5, 0.9])
async def test_a_damaged_page_anywhere_is_reported(file: Path, part: float) -> None:
    db = Database(f"sqlite+aiosqlite:///{file}")
    await db.check_pages()
    await db.close()
    damage(file, int(part * file.stat().st_size / PAGE))
    damaged = Database(f"sqlite+aiosqlite:///{file}")
    with pytest.raises(DatabaseCorrupt):
        await damaged.check_pages()
    await damaged.close()
