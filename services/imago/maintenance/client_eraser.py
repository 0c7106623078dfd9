"""Erases clients until only the report in the audit log is left."""

from dataclasses import replace

import structlog
from nats.errors import Error as NatsError

from imago.core import erasure
from imago.core.erasure import ErasingClient
from imago.db.engine import Database
from imago.nats.connection import NatsConnection, NatsUnavailable
from imago.nats.purge import purge_client
from imago.telemetry import metrics

log = structlog.get_logger(__name__)

BATCH = 100


class ClientEraser:
    """Continues the erasures that administrators or the operator requested; any process can resume them."""

    def __init__(self, db: Database, nats: NatsConnection) -> None:
        self._db = db
        self._nats = nats

    async def run_once(self) -> int:
        """Continue all erasures; return how many clients were erased."""
        count = 0
        for client in await erasure.erasing_clients(self._db):
            count += await self._erase(client)
        return count

    async def _erase(self, client: ErasingClient) -> bool:
        progress = client.progress
        # A replica that caches the key for a few more seconds may have accepted uploads since the last run.
        await erasure.cancel_pending(self._db, client.id)
        while erased := await erasure.erase_images(self._db, client.id, limit=BATCH):
            left = await erasure.objects_left(self._db, client.uuid)
            progress = replace(progress, images_erased=progress.images_erased + erased, objects_left=left)
            await erasure.save_progress(self._db, client.id, progress)
        progress = replace(progress, objects_left=await erasure.objects_left(self._db, client.uuid))
        await erasure.save_progress(self._db, client.id, progress)
        if progress.objects_left:
            # The object cleaner deletes them; the next run continues.
            return False
        await self._nats.check()
        try:
            purged = await purge_client(self._nats.js, client.uuid)
        except (NatsError, OSError) as error:
            raise NatsUnavailable(type(error).__name__) from error
        progress = replace(progress, messages=progress.messages + purged)
        if await erasure.finish_erasure(self._db, client, progress) is None:
            await erasure.save_progress(self._db, client.id, progress)
            return False
        metrics.CLIENTS_ERASED.inc()
        log.info("client.erased", client=str(client.uuid), **progress.to_json())
        return True
