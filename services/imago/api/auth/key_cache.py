"""A cache of keys with their clients, limited in size and age.

A revoked key, a changed scope or a deactivated client takes effect on every replica within `MAX_AGE` seconds.
"""

import time
from collections import OrderedDict
from datetime import datetime

from imago.core.clients import keys
from imago.core.clients.key_registry import StoredKey, find_key, record_uses
from imago.core.times import utc_now
from imago.db.engine import Database

MAX_AGE = 3.0
MAX_ENTRIES = 10_000


class KeyCache:
    """Looks up usable keys; unknown ids are cached too, so that guesses do not each query the database."""

    def __init__(self, db: Database, *, pepper: str) -> None:
        self._db = db
        self._pepper = pepper
        self._entries: OrderedDict[str, tuple[float, StoredKey | None]] = OrderedDict()
        self._uses: dict[str, datetime] = {}

    async def authenticate(self, text: str) -> StoredKey | None:
        """Return the stored key for a key's text if it is valid and usable now; raise DatabaseUnavailable."""
        key = keys.parse(text)
        if key is None:
            return None
        stored = await self._find(key.key_id)
        digest = keys.digest_at_rest(key.wire_digest, self._pepper)
        # Compared for unknown ids as well, so that the response time does not reveal which ids exist.
        equal = keys.digests_equal(stored.digest if stored else bytes(32), digest)
        return self._used(stored) if stored is not None and equal else None

    def knows(self, text: str) -> bool:
        """Return whether the key's id is cached and exists, without checking the secret or querying the database."""
        key = keys.parse(text)
        entry = self._entries.get(key.key_id) if key is not None else None
        return entry is not None and entry[1] is not None

    async def usable(self, key_id: str) -> StoredKey | None:
        """Return the key with an id if it is usable now; for tokens, which prove the possession of the key."""
        stored = await self._find(key_id)
        return self._used(stored) if stored is not None else None

    async def write_uses(self) -> int:
        """Store when the keys were last used, in one batch instead of at each request; return the number of keys."""
        uses, self._uses = self._uses, {}
        if uses:
            try:
                await record_uses(self._db, uses)
            except BaseException:
                self._uses = {**uses, **self._uses}
                raise
        return len(uses)

    def _used(self, stored: StoredKey) -> StoredKey | None:
        now = utc_now()
        if not stored.usable(now):
            return None
        self._uses[stored.key_id] = now
        return stored

    async def _find(self, key_id: str) -> StoredKey | None:
        entry = self._entries.get(key_id)
        now = time.monotonic()
        if entry is not None and now - entry[0] < MAX_AGE:
            return entry[1]
        stored = await find_key(self._db, key_id)
        self._entries[key_id] = (now, stored)
        self._entries.move_to_end(key_id)
        while len(self._entries) > MAX_ENTRIES:
            self._entries.popitem(last=False)
        return stored
