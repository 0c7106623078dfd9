"""The eraser: goes on with the erasure of clients until nothing of them is left but the report in the audit log."""

from dataclasses import replace

import structlog
from nats.errors import Error as NatsError

from imago.core import erasure
from imago.core.erasure import Doomed
from imago.db.engine import Database
from imago.nats.connection import NatsConnection, NatsUnavailable
from imago.nats.purge import purge_client
from imago.telemetry import metrics

log = structlog.get_logger(__name__)

BATCH = 100


class ClientEraser:
    """Erases clients that administrators or the operator asked to erase; any process may go on with it."""

    def __init__(self, db: Database, nats: NatsConnection) -> None:
        self._db = db
        self._nats = nats

    async def run_once(self) -> int:
        """Do what can be done now; return how many clients are gone since."""
        count = 0
        for doomed in await erasure.doomed_clients(self._db):
            count += await self._erase(doomed)
        return count

    async def _erase(self, doomed: Doomed) -> bool:
        progress = doomed.progress
        # A replica that knows the key for some seconds more may have begun uploads since the last pass.
        await erasure.silence(self._db, doomed.id)
        while erased := await erasure.erase_images(self._db, doomed.id, limit=BATCH):
            left = await erasure.objects_left(self._db, doomed.uuid)
            progress = replace(progress, images_erased=progress.images_erased + erased, objects_left=left)
            await erasure.note_progress(self._db, doomed.id, progress)
        progress = replace(progress, objects_left=await erasure.objects_left(self._db, doomed.uuid))
        await erasure.note_progress(self._db, doomed.id, progress)
        if progress.objects_left:
            # The sweeper deletes them; this goes on at the next turn.
            return False
        if not self._nats.connected:
            raise NatsUnavailable("not connected")
        try:
            purged = await purge_client(self._nats.js, doomed.uuid)
        except (NatsError, OSError) as error:
            raise NatsUnavailable(type(error).__name__) from error
        progress = replace(progress, messages=progress.messages + purged)
        if await erasure.finish_erasure(self._db, doomed, progress) is None:
            await erasure.note_progress(self._db, doomed.id, progress)
            return False
        metrics.CLIENTS_ERASED.inc()
        log.info("a client is erased", client=str(doomed.uuid), **progress.to_json())
        return True
