"""A client of an installation that keeps a journal of its uploads, against which the outcome is checked."""

import asyncio
import hashlib
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import aiohttp

from devtools.waiting import until
from tests.faults.platform import ADMIN_KEY, Platform
from tests.support.images import encoded, picture

_TIMEOUT = aiohttp.ClientTimeout(total=30)

ENDED = frozenset({"done", "partial", "failed"})


def photo(number: int) -> bytes:
    """Return a small photo that differs from all others."""
    return encoded("jpeg", picture(64, 48, seed=number % 100), comment=f"{number}-{uuid4()}".encode())


@dataclass
class Answer:
    """A response; `status` 0 means that the connection broke (`body` says how) and the outcome is unknown."""

    status: int
    body: Any
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Operation:
    """An upload as its client knows it: its bytes, its Idempotency-Key, and the image's id once acknowledged."""

    key: str
    sha256: str
    size: int
    image_id: int | None = None
    image_uuid: str | None = None
    attempts: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, data: bytes) -> "Operation":
        """Return an upload that has not been attempted yet, with a new key."""
        return cls(uuid4().hex, hashlib.sha256(data).hexdigest(), len(data))


class Tenant:
    """A client (tenant) of an installation, with a journal."""

    def __init__(self, platform: Platform, session: aiohttp.ClientSession, uuid: str, key: str, number: int) -> None:
        self.platform = platform
        self.uuid = uuid
        self.number = number
        self.key = key
        self.journal: list[Operation] = []
        self._session = session
        self._turn = itertools.count()

    async def call(self, method: str, path: str, *, api: int | None = None, **options: Any) -> Answer:
        """Send a request to the API process `api`, or to all of them in turn."""
        apis = self.platform.apis
        url = apis[next(self._turn) % len(apis) if api is None else api].url + path
        headers = {"X-API-Key": self.key, **options.pop("headers", {})}
        try:
            async with self._session.request(method, url, headers=headers, **options) as answer:
                body = await answer.json(content_type=None) if answer.status != 204 else None
                return Answer(answer.status, body, dict(answer.headers))
        except (aiohttp.ClientError, TimeoutError, ConnectionError, ValueError) as error:
            return Answer(0, repr(error))

    async def upload_once(self, data: bytes, *, key: str | None = None, api: int | None = None) -> Answer:
        """Upload once, without a retry."""
        form = aiohttp.FormData(quote_fields=False)
        form.add_field("file", data, filename="photo.jpg", content_type="image/jpeg")
        headers = {"Idempotency-Key": key} if key else {}
        return await self.call("POST", "/images/upload", api=api, data=form, headers=headers)

    async def upload(self, data: bytes, *, pause: float = 0.2, give_up_after: float = 90) -> Operation:
        """Upload as a good client does: with a key, and with retries on 5xx, 429 and broken connections."""
        done = Operation.of(data)
        self.journal.append(done)
        deadline = time.monotonic() + give_up_after
        while time.monotonic() < deadline:
            answer = await self.upload_once(data, key=done.key)
            done.attempts.append(answer.status)
            if answer.status == 201:
                done.image_id, done.image_uuid = answer.body["id"], answer.body["uuid"]
                return done
            # 408: an outage made the upload last longer than its intent.
            assert answer.status in (0, 408, 409, 429) or answer.status >= 500, f"refused: {answer.body}"
            await asyncio.sleep(pause)
        raise AssertionError(f"an upload was not accepted in {give_up_after:g} s: {done.attempts[-20:]}")

    async def status(self, image: int) -> dict[str, Any]:
        """Return an image's status document; retry while the platform is unavailable."""

        async def ask() -> Any:
            answer = await self.call("GET", f"/images/{image}/status")
            return answer.body if answer.status in (200, 404) else None

        document: dict[str, Any] = await until(ask, what=f"the status of image {image}", timeout=60)
        return document

    async def ended(self, image: int, *, timeout: float = 60, statuses: Sequence[str] = ("done",)) -> dict[str, Any]:
        """Wait until an image has ended, and check that its status is one of `statuses`."""

        async def over() -> dict[str, Any] | None:
            document = await self.status(image)
            return document if document.get("status") in ENDED else None

        document = await until(over, what=f"image {image} to end", timeout=timeout)
        assert document is not None
        assert document["status"] in statuses, document
        return document

    def counts(self) -> dict[str, int]:
        """Return the number of the client's images by status, from the database."""
        rows = self.platform.query(
            "SELECT status, count(*) AS n FROM images WHERE client_id = :client GROUP BY status", client=self.number
        )
        return {row["status"]: row["n"] for row in rows}

    async def all_ended(self, *, timeout: float) -> float:
        """Wait until all of the client's images have ended; return how long it took."""
        began = time.monotonic()

        async def over() -> bool:
            return set(await asyncio.to_thread(self.counts)) <= ENDED

        await until(over, what="all images to end", timeout=timeout, interval=0.3)
        return time.monotonic() - began


async def new_tenant(
    platform: Platform, session: aiohttp.ClientSession, *, plan: str = "standard", **more: Any
) -> Tenant:
    """Create a client of an installation."""
    name = f"tenant {uuid4()}"
    more = {"limits": {"requests_per_minute": 1_000_000, "burst": 100_000}, **more}

    async def create() -> Any:
        try:
            async with session.post(
                f"{platform.apis[0].url}/auth/clients",
                json={"name": name, "plan": plan, **more},
                headers={"X-API-Key": ADMIN_KEY},
            ) as answer:
                return await answer.json() if answer.status == 201 else None
        except aiohttp.ClientError:
            return None

    created = await until(create, what="a client to be created")
    return Tenant(platform, session, created["uuid"], created["api_key"], created["id"])


def new_session() -> aiohttp.ClientSession:
    """Return a session without keep-alive: connections to a killed server would be found dead."""
    return aiohttp.ClientSession(timeout=_TIMEOUT, connector=aiohttp.TCPConnector(force_close=True, limit=0))
