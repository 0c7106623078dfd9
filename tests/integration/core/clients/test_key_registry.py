"""Registration of keys."""

import pytest

from imago.core.clients.audit import Actor
from imago.core.clients.key_registry import KeyRegistration, register_key
from imago.core.errors import NotFound
from imago.db.engine import Database


async def test_registering_a_key_of_an_erased_client_raises_not_found(db: Database) -> None:
    with pytest.raises(NotFound):
        await register_key(db, 4711, KeyRegistration("abcdefgh", bytes(32), None), by=Actor("tests"))
