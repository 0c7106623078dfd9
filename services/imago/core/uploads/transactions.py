"""The two transactions of an upload. Concurrent uploads of one client share them (docs/adr/0007)."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from imago.core.clients.model import Client, Usage
from imago.core.clients.queries import read_usage
from imago.core.clients.quotas import require_quota_left
from imago.core.concurrency.batching import BatchExecutor
from imago.core.errors import QuotaExceeded
from imago.core.times import utc_now
from imago.core.uploads.accept import Acceptance, accept_uploads
from imago.core.uploads.idempotency import Completion
from imago.core.uploads.intents import NewIntent, insert_intents
from imago.core.uploads.model import AcceptedImage, NewImage
from imago.db.engine import Database, DatabaseUnavailable, RowScope

# Larger batches are split: a transaction holds the lock on the client's usage until it commits.
_MAX_BATCH_SIZE = 20


class Uploads:
    """Begins and accepts uploads in batches by client."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._intents: BatchExecutor[tuple[Client, NewIntent], int] = BatchExecutor(
            self._begin, max_size=_MAX_BATCH_SIZE, not_retried=(DatabaseUnavailable,), key=lambda request: request[0].id
        )
        self._acceptances: BatchExecutor[Acceptance, AcceptedImage] = BatchExecutor(
            self._accept,
            max_size=_MAX_BATCH_SIZE,
            not_retried=(DatabaseUnavailable,),
            key=lambda request: request.client.id,
        )

    async def begin(self, client: Client, *, image: UUID, object_key: str, ttl: timedelta) -> int:
        """Commit an intent, so that the object cleaner finds whatever this upload stores; return the intent's id.

        Raises QuotaExceeded if the quota is used up.
        """
        return await self._intents.submit((client, NewIntent(image, object_key, ttl)))

    async def accept(self, client: Client, upload: NewImage, *, completion: Completion | None = None) -> AcceptedImage:
        """Charge the quota and create the image, its stages and its outbox rows in one transaction.

        With `completion`, the same transaction stores the response under the Idempotency-Key. On an error nothing is
        written, and the caller abandons the upload. Raises QuotaExceeded, UploadExpired if the intent is gone,
        Unauthenticated if the client was deactivated, and IdempotencyInFlight if another request took over the key.
        """
        return await self._acceptances.submit(Acceptance(client, upload, completion))

    async def _begin(self, requests: Sequence[tuple[Client, NewIntent]]) -> list[int | Exception]:
        client_id = requests[0][0].id
        async with self._db.write(RowScope(client_id)) as connection:
            used = await read_usage(connection, client_id)
            rejections = [_rejection(used, client) for client, _ in requests]
            admitted = [intent for (_, intent), error in zip(requests, rejections, strict=True) if error is None]
            ids = await insert_intents(connection, client_id, admitted, now=utc_now())
        return [error or ids[intent.image] for (_, intent), error in zip(requests, rejections, strict=True)]

    async def _accept(self, requests: Sequence[Acceptance]) -> list[AcceptedImage]:
        # In the order in which the object cleaner locks intents, too.
        in_order = sorted(requests, key=lambda request: request.upload.intent_id)
        # A rejected upload fails the whole transaction; then each upload of the batch gets its own.
        async with self._db.write(RowScope(requests[0].client.id)) as connection:
            accepted = await accept_uploads(connection, in_order, now=utc_now())
        images = {image.uuid: image for image in accepted}
        return [images[request.upload.uuid] for request in requests]


def _rejection(used: Usage, client: Client) -> QuotaExceeded | None:
    try:
        require_quota_left(used, client.limits)
    except QuotaExceeded as error:
        return error
    return None
