"""Finds damaged pages of a SQLite database, which fail only the queries that read them."""

import sqlite3
import time
from pathlib import Path

# Of a large database, only what can be read in this time is checked.
LIMIT_SECONDS = 2.0

_INSTRUCTIONS = 10_000


def find_damage(path: Path) -> bool:
    """Return whether a page is damaged, reading from the file and not from a cache of pages."""
    deadline = time.monotonic() + LIMIT_SECONDS
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=LIMIT_SECONDS)
    try:
        connection.set_progress_handler(lambda: time.monotonic() > deadline, _INSTRUCTIONS)
        return bool(connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",))
    except sqlite3.OperationalError:
        # Interrupted, locked, or unreadable for a reason that other checks report.
        return False
    except sqlite3.DatabaseError:
        return True
    finally:
        connection.close()
