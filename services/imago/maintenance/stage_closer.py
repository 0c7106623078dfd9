"""Ends open runs of disabled stages, and deletes their messages."""

from collections.abc import Collection
from datetime import timedelta

import structlog
from nats.errors import Error as NatsError

from imago.core.jobs.disabled_stages import close_disabled_stages, images_with_disabled_stages
from imago.core.jobs.stages import Stage
from imago.core.outbox.model import OutboxPublisher
from imago.db.engine import Database
from imago.nats.connection import NatsConnection, NatsUnavailable
from imago.nats.purge import purge_stages

log = structlog.get_logger(__name__)

# Longer than a rollout, during which other processes may still have the stage.
_QUIET = timedelta(minutes=10)

_PAGE = 200


class StageCloser:
    """Lets images be done whose stages the server has disabled since."""

    def __init__(
        self,
        db: Database,
        nats: NatsConnection,
        outbox_publisher: OutboxPublisher,
        *,
        stages_off: Collection[Stage],
        quiet_for: timedelta = _QUIET,
    ) -> None:
        self._db = db
        self._nats = nats
        self._outbox_publisher = outbox_publisher
        self._stages_off = stages_off
        self._quiet = quiet_for

    async def run_once(self) -> int:
        """End the runs; return the number of their images. Raises NatsUnavailable."""
        if not self._stages_off:
            return 0
        closed = 0
        while found := await images_with_disabled_stages(
            self._db, self._stages_off, quiet_for=self._quiet, limit=_PAGE
        ):
            for image_id in found:
                self._outbox_publisher.publish_soon(await close_disabled_stages(self._db, image_id, self._stages_off))
            closed += len(found)
        if closed:
            log.info("stage.disabled-closed", images=closed)
            await self._purge()
        return closed

    async def _purge(self) -> None:
        await self._nats.check()
        try:
            await purge_stages(self._nats.js, self._stages_off)
        except (NatsError, OSError) as error:
            raise NatsUnavailable(type(error).__name__) from error
