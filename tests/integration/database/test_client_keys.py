"""Keys at rest."""

import pytest

from imago.database.client_keys import register_key
from imago.database.engine import Database
from imago.domain.audit import Actor
from imago.domain.problems import NotFound


async def test_a_key_of_a_client_that_was_erased_meanwhile_is_not_found(db: Database) -> None:
    nobody = Actor("tests")
    with pytest.raises(NotFound):
        await register_key(db, 4711, key_id="abcdefgh", digest=bytes(32), expires_at=None, by=nobody)
