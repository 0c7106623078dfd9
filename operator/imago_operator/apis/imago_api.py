"""The client of Imago's API for managing clients and keys.

Every request is idempotent: repeating a PUT, GET or DELETE has no further effect.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from imago.core.clients.keys import ApiKey
from imago.core.times import iso_utc
from imago_operator import metrics
from imago_operator.apis.http_client import CONNECTION_ERRORS, TRANSIENT_STATUSES, HttpClient, HttpReply, RetryPolicy

RETRIES = RetryPolicy(attempts=3, first_delay=0.5)

_JOBS = "/admin/reprocess-jobs"


class ApiUnavailable(Exception):
    """Imago's API does not reply, or replies with a transient error; the request may have taken effect."""


class ApiRefused(Exception):
    """Imago's API rejected the request and would reject it again; the text is the API's."""


class NothingSelected(ApiRefused):
    """No image matches the selection of a reprocess job."""


class ClientOwned(Exception):
    """The client belongs to another owner."""


class KeyTaken(Exception):
    """The key id is in use or was revoked; a new key has to be generated."""


@dataclass(frozen=True)
class RegisteredKey:
    """A key as Imago stores it; it contains no secret."""

    key_id: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None

    def is_valid(self, now: datetime) -> bool:
        """Return whether Imago accepts the key at this moment."""
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > now)


@dataclass(frozen=True)
class ClientState:
    """A client as Imago stores it."""

    uuid: UUID
    owner: str | None
    active: bool
    lane: str
    lane_open: int
    usage: Mapping[str, int]
    keys: dict[str, RegisteredKey]
    erasure: Mapping[str, Any] | None


@dataclass(frozen=True)
class JobState:
    """A reprocess job as Imago stores it."""

    id: int
    uuid: UUID
    phase: str
    images_per_minute: int
    suspended: bool
    counts: Mapping[str, int]
    completed_at: datetime | None

    @property
    def completed(self) -> bool:
        """Whether the runs of all images have ended."""
        return self.completed_at is not None


class ImagoApi(HttpClient):
    """The part of Imago's API that the operator uses, with at most `parallel` concurrent requests."""

    def __init__(self, url: str, key: str, *, timeout: float, parallel: int) -> None:
        super().__init__(timeout=timeout, retries=RETRIES)
        self._url = url
        self._headers = {"X-API-Key": key}
        self._slots = asyncio.Semaphore(parallel)

    async def get(self, client: UUID) -> ClientState | None:
        """Return a client; None if it does not exist or the operator may not read it."""
        reply = await self._request("get-client", "GET", f"/auth/clients/{client}")
        return None if reply.status == 404 else _client(reply.body)

    async def put(self, client: UUID, body: Mapping[str, Any]) -> ClientState:
        """Create or replace a client; raise ClientOwned, or ApiRefused while it is being erased."""
        return _client(await self._request_found("put-client", "PUT", f"/auth/clients/{client}", body=body))

    async def deactivate(self, client: UUID, *, owner: str) -> None:
        """Deactivate the owner's client, if it exists."""
        await self._request("delete-client", "DELETE", f"/auth/clients/{client}", query={"owner": owner})

    async def erase(self, client: UUID, *, owner: str) -> None:
        """Start the erasure of the owner's client, if it exists."""
        query = {"erase": "true", "owner": owner}
        await self._request("erase-client", "DELETE", f"/auth/clients/{client}", query=query)

    async def register_key(self, client: UUID, key: ApiKey, *, owner: str) -> RegisteredKey:
        """Register a key without expiry, by its digest; raise KeyTaken."""
        return await self._put_key(client, key.key_id, {"sha256": key.wire_digest.hex()}, owner=owner)

    async def expire_key(self, client: UUID, key_id: str, at: datetime, *, owner: str) -> RegisteredKey:
        """Set the expiry of a registered key, whose secret the operator no longer knows."""
        return await self._put_key(client, key_id, {"expires_at": iso_utc(at)}, owner=owner)

    async def revoke_key(self, client: UUID, key_id: str, *, owner: str) -> None:
        """Revoke a key immediately, if it exists."""
        await self._request("delete-key", "DELETE", f"/auth/clients/{client}/keys/{key_id}", query={"owner": owner})

    async def get_job(self, job: UUID) -> JobState | None:
        """Return a reprocess job; None if it does not exist."""
        reply = await self._request("get-job", "GET", f"{_JOBS}/{job}")
        return None if reply.status == 404 else _job(reply.body)

    async def create_job(self, body: Mapping[str, Any]) -> JobState:
        """Create a reprocess job, or return the one with the uuid of the body; raise NothingSelected."""
        return _job((await self._request("create-job", "POST", _JOBS, body=body)).body)

    async def change_job(self, job: UUID, body: Mapping[str, Any]) -> JobState:
        """Change the rate of a reprocess job, suspend or resume it."""
        return _job(await self._request_found("change-job", "PATCH", f"{_JOBS}/{job}", body=body))

    async def delete_job(self, job: UUID) -> None:
        """Delete a reprocess job, if it exists."""
        await self._request("delete-job", "DELETE", f"{_JOBS}/{job}")

    async def _put_key(self, client: UUID, key_id: str, body: Mapping[str, Any], *, owner: str) -> RegisteredKey:
        path = f"/auth/clients/{client}/keys/{key_id}"
        try:
            return _key(await self._request_found("put-key", "PUT", path, body=body, query={"owner": owner}))
        except _ApiConflict as error:
            raise KeyTaken(str(error)) from None

    async def _request_found(
        self, name: str, method: str, path: str, *, body: Mapping[str, Any], query: Mapping[str, str] | None = None
    ) -> Any:
        reply = await self._request(name, method, path, body=body, query=query)
        if reply.status == 404:
            raise ApiRefused("The client does not exist, or the operator may not manage it.")
        return reply.body

    async def _request(
        self,
        name: str,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> HttpReply:
        """Return the reply if it is a success or a 404; raise ApiUnavailable, ApiRefused or ClientOwned."""

        async def send() -> HttpReply:
            try:
                async with self._slots:
                    reply = await self._send(method, self._url + path, json=body, params=query, headers=self._headers)
            except CONNECTION_ERRORS:
                metrics.API_REQUESTS.labels(name, "none").inc()
                raise
            metrics.API_REQUESTS.labels(name, str(reply.status)).inc()
            return reply

        try:
            reply = await self._send_with_retries(send)
        except CONNECTION_ERRORS as error:
            raise ApiUnavailable(f"no reply ({type(error).__name__})") from None
        if reply.status < 300 or reply.status == 404:
            return reply
        raise _error_of(reply)


class _ApiConflict(ApiRefused):
    """A 409 without a more specific code."""


def _error_of(reply: HttpReply) -> Exception:
    detail = _detail(reply.body)
    if reply.status in TRANSIENT_STATUSES:
        return ApiUnavailable(f"{reply.status}: {detail}")
    if isinstance(reply.body, dict) and reply.body.get("code") == "client-owned":
        return ClientOwned(detail)
    if isinstance(reply.body, dict) and reply.body.get("code") == "nothing-selected":
        return NothingSelected(detail)
    if reply.status == 409:
        return _ApiConflict(detail)
    if reply.status in (401, 403):
        return ApiRefused(
            f"The operator's key was rejected ({reply.status}): the operator and the API must have the same "
            "OPERATOR_API_KEY."
        )
    return ApiRefused(f"{reply.status}: {detail}")


def _detail(body: Any) -> str:
    if not isinstance(body, dict):
        return "no reason given"
    errors = body.get("errors")
    return f"{body.get('detail') or body.get('title')}" + (f" {errors}" if errors else "")


def _client(body: Any) -> ClientState:
    try:
        return ClientState(
            uuid=UUID(body["uuid"]),
            owner=body["owner"],
            active=body["active"],
            lane=body["lane"],
            lane_open=body["lane_open"],
            usage=body["usage"],
            keys={item["key_id"]: _key(item) for item in body["keys"]},
            erasure=body["erasure"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _not_imago(error) from None


def _job(body: Any) -> JobState:
    try:
        return JobState(
            id=body["id"],
            uuid=UUID(body["uuid"]),
            phase=body["phase"],
            images_per_minute=body["images_per_minute"],
            suspended=body["suspended"],
            counts=body["counts"],
            completed_at=_optional_time(body["completed_at"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _not_imago(error) from None


def _key(body: Any) -> RegisteredKey:
    try:
        return RegisteredKey(
            key_id=body["key_id"],
            created_at=datetime.fromisoformat(body["created_at"]),
            expires_at=_optional_time(body["expires_at"]),
            revoked_at=_optional_time(body["revoked_at"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _not_imago(error) from None


def _not_imago(error: Exception) -> ApiUnavailable:
    return ApiUnavailable(f"the server at OPERATOR_API_URL is not Imago ({type(error).__name__})")


def _optional_time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
