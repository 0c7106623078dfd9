"""Keys at rest."""

import pytest

from imago.core.clients.audit import Actor
from imago.core.clients.key_registry import KeyRegistration, register_key
from imago.core.errors import NotFound
from imago.db.engine import Database


async def test_a_key_of_a_client_that_was_erased_meanwhile_is_not_found(db: Database) -> None:
    nobody = Actor("tests")
    with pytest.raises(NotFound):
        await register_key(db, 4711, KeyRegistration("abcdefgh", bytes(32), None), by=nobody)
