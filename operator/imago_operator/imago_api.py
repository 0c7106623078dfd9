"""A client of Imago's API for the management of clients: deadlines, retries with backoff, refusals by their kind.

Every request may be repeated: PUT, GET and DELETE mean the same the second time.
"""

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import aiohttp

from imago.core.clients.keys import ApiKey
from imago.core.times import iso_utc
from imago_operator import metrics
from imago_operator.credentials import KeyState

TRIES = 3
FIRST_PAUSE = 0.25
# Who is told to come back later than this does so with its next pass.
LONGEST_PAUSE = 3.0

_RETRIED = frozenset({429, 500, 502, 503, 504})


class ApiUnavailable(Exception):
    """Imago's API doesn't answer, or can't just now; what was sent may have happened or not."""


class ApiRefused(Exception):
    """Imago's API says no, and will say so again; the text is its own."""


class ClientOwned(Exception):
    """The client is another owner's."""


class KeyTaken(Exception):
    """The key's id is taken or was revoked: another key is needed."""


@dataclass(frozen=True)
class ClientState:
    """A client as Imago has it."""

    uuid: UUID
    owner: str | None
    active: bool
    lane: str
    lane_open: int
    usage: Mapping[str, int]
    keys: dict[str, KeyState]
    erasure: Mapping[str, Any] | None


class ImagoApi:
    """Imago's API, as the operator sees it; at most `parallel` requests at once."""

    def __init__(self, url: str, key: str, *, timeout: float, parallel: int) -> None:
        self._url = url
        self._headers = {"X-API-Key": key}
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._slots = asyncio.Semaphore(parallel)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=self._timeout, headers=self._headers)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(self, client: UUID) -> ClientState | None:
        """Return a client, None where there is none or it isn't the operator's."""
        status, answer = await self._ask("get-client", "GET", f"/auth/clients/{client}")
        return None if status == 404 else _client(answer)

    async def put(self, client: UUID, body: Mapping[str, Any]) -> ClientState:
        """Create the client or make it what is given; raise ClientOwned, and ApiRefused while it is being erased."""
        return _client(await self._found("put-client", "PUT", f"/auth/clients/{client}", body=body))

    async def deactivate(self, client: UUID, *, owner: str) -> None:
        """Deactivate the owner's client; nothing happens where it is gone."""
        await self._ask("delete-client", "DELETE", f"/auth/clients/{client}", query={"owner": owner})

    async def erase(self, client: UUID, *, owner: str) -> None:
        """Have the owner's client erased; nothing happens where it is gone."""
        query = {"erase": "true", "owner": owner}
        await self._ask("erase-client", "DELETE", f"/auth/clients/{client}", query=query)

    async def register_key(self, client: UUID, key: ApiKey, *, owner: str) -> KeyState:
        """Register a key by its digest, to expire never; raise KeyTaken where another is needed."""
        return await self._put_key(client, key.key_id, {"sha256": key.wire_digest.hex()}, owner=owner)

    async def expire_key(self, client: UUID, key_id: str, at: datetime, *, owner: str) -> KeyState:
        """Let a registered key, whose secret nobody here knows any more, expire at a time."""
        return await self._put_key(client, key_id, {"expires_at": iso_utc(at)}, owner=owner)

    async def revoke_key(self, client: UUID, key_id: str, *, owner: str) -> None:
        """Revoke a key at once; nothing happens where it is gone."""
        await self._ask("delete-key", "DELETE", f"/auth/clients/{client}/keys/{key_id}", query={"owner": owner})

    async def _put_key(self, client: UUID, key_id: str, body: Mapping[str, Any], *, owner: str) -> KeyState:
        path = f"/auth/clients/{client}/keys/{key_id}"
        try:
            return _key(await self._found("put-key", "PUT", path, body=body, query={"owner": owner}))
        except _Conflict as error:
            raise KeyTaken(str(error)) from None

    async def _found(
        self, name: str, method: str, path: str, *, body: Mapping[str, Any], query: Mapping[str, str] | None = None
    ) -> Any:
        status, answer = await self._ask(name, method, path, body=body, query=query)
        if status == 404:
            raise ApiRefused("Imago doesn't know the client, or it isn't the operator's.")
        return answer

    async def _ask(
        self,
        name: str,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> tuple[int, Any]:
        trouble, pause = "", 0.0
        for attempt in range(TRIES):
            if attempt:
                backoff = FIRST_PAUSE * 4 ** (attempt - 1) * random.uniform(0.5, 1.5)  # noqa: S311 - it spreads load, and is no secret
                await asyncio.sleep(min(max(pause, backoff), LONGEST_PAUSE))
            try:
                status, answer, pause = await self._once(method, path, body, query)
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                trouble = f"no answer ({type(error).__name__})"
                metrics.API_REQUESTS.labels(name, "none").inc()
                continue
            metrics.API_REQUESTS.labels(name, str(status)).inc()
            if status < 300 or status == 404:
                return status, answer
            if status not in _RETRIED:
                raise _refusal(status, answer)
            trouble = f"{status}: {_detail(answer)}"
        raise ApiUnavailable(trouble)

    async def _once(
        self, method: str, path: str, body: Mapping[str, Any] | None, query: Mapping[str, str] | None
    ) -> tuple[int, Any, float]:
        if self._session is None:
            raise RuntimeError("the session is not open")
        async with (
            self._slots,
            self._session.request(method, self._url + path, json=body, params=query, allow_redirects=False) as response,
        ):
            try:
                answer = await response.json(content_type=None)
            except ValueError:
                # A proxy's page, or nothing at all.
                answer = None
            later = response.headers.get("Retry-After", "")
            return response.status, answer, float(later) if later.isdigit() else 0.0


class _Conflict(ApiRefused):
    """A 409 of no more telling code."""


def _refusal(status: int, answer: Any) -> Exception:
    code = answer.get("code") if isinstance(answer, dict) else None
    if code == "client-owned":
        return ClientOwned(_detail(answer))
    if status == 409:
        return _Conflict(_detail(answer))
    if status in (401, 403):
        return ApiRefused(
            f"The operator's key isn't taken ({status}): OPERATOR_API_KEY must be the same on both sides."
        )
    return ApiRefused(f"{status}: {_detail(answer)}")


def _detail(answer: Any) -> str:
    if not isinstance(answer, dict):
        return "no reason given"
    errors = answer.get("errors")
    return f"{answer.get('detail') or answer.get('title')}" + (f" {errors}" if errors else "")


def _client(answer: Any) -> ClientState:
    try:
        return ClientState(
            uuid=UUID(answer["uuid"]),
            owner=answer["owner"],
            active=answer["active"],
            lane=answer["lane"],
            lane_open=answer["lane_open"],
            usage=answer["usage"],
            keys={item["key_id"]: _key(item) for item in answer["keys"]},
            erasure=answer["erasure"],
        )
    except (KeyError, TypeError, ValueError) as error:
        # Something else answers at OPERATOR_API_URL.
        raise ApiUnavailable(f"an answer that isn't Imago's ({type(error).__name__})") from None


def _key(answer: Any) -> KeyState:
    try:
        return KeyState(
            key_id=answer["key_id"],
            created_at=datetime.fromisoformat(answer["created_at"]),
            expires_at=_moment(answer["expires_at"]),
            revoked_at=_moment(answer["revoked_at"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ApiUnavailable(f"an answer that isn't Imago's ({type(error).__name__})") from None


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
