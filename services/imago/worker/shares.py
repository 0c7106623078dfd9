"""The share of a worker's jobs that one client may have while its jobs are slow."""

import asyncio
import time
from dataclasses import dataclass, field
from uuid import UUID

# A client whose jobs end faster than this does not keep others waiting.
_SLOW_SECONDS = 3.0


@dataclass
class _Jobs:
    running: int = 0
    waiting: int = 0
    last_end: float = 0.0
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class ClientShares:
    """Admits jobs of a client up to `most` in progress; further ones wait, and are refused while none ends.

    A refused job's message is returned, so that the worker sees the messages of other clients behind it.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._clients: dict[UUID, _Jobs] = {}

    async def enter(self, client: UUID) -> bool:
        """Return whether a job may start; the caller then calls `leave` when it has ended."""
        jobs = self._clients.setdefault(client, _Jobs())
        jobs.waiting += 1
        try:
            while jobs.running >= self._most:
                remaining = jobs.last_end + _SLOW_SECONDS - time.monotonic()
                if remaining <= 0:
                    return False
                jobs.ended.clear()
                try:
                    await asyncio.wait_for(jobs.ended.wait(), remaining)
                except TimeoutError:
                    continue
            jobs.running += 1
            if jobs.running == self._most:
                # From now on the client's jobs have to end, for others to start.
                jobs.last_end = time.monotonic()
            return True
        finally:
            jobs.waiting -= 1
            self._forget(client)

    def leave(self, client: UUID) -> None:
        """Count the end of a job."""
        jobs = self._clients[client]
        jobs.running -= 1
        jobs.last_end = time.monotonic()
        jobs.ended.set()
        self._forget(client)

    def _forget(self, client: UUID) -> None:
        jobs = self._clients[client]
        if not jobs.running and not jobs.waiting:
            del self._clients[client]
