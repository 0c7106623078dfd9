"""A small client of the Kubernetes API for what Kopf doesn't do: objects by their path, and refusals by their kind."""

import asyncio
import json
import os
import random
import ssl
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import aiohttp
import kopf
import structlog

log = structlog.get_logger(__name__)

MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"
FIELD_MANAGER = "imago-operator"

# A projected token lives for an hour and is replaced on disk long before its end; client-go reads it every minute too.
CREDENTIALS_SECONDS = 60.0
# An API server that restarts is back within seconds; what takes longer is the next pass' business.
TRIES = 4
FIRST_PAUSE = 0.2

_RETRIED = frozenset({429, 500, 502, 503, 504})

Object = dict[str, Any]


class KubernetesUnavailable(Exception):
    """The API server can't be reached or has trouble of its own; what was sent may have happened or not."""


class Changed(Exception):
    """An object isn't what it was when it was read (409): read again and decide anew."""


class Refused(Exception):
    """The API server says no, and will say so again (403, 422): the text is its own."""


class Kubernetes:
    """One session with the API server, as a service account in a pod or by a kubeconfig."""

    def __init__(self, *, timeout: float, credentials: Callable[[], kopf.ConnectionInfo] | None = None) -> None:
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._session: aiohttp.ClientSession | None = None
        self._find = credentials or find_credentials
        self._info = self._find()
        self._ssl = _ssl_of(self._info)
        self._read_at = 0.0

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=self._timeout)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(self, path: str) -> Object | None:
        """Return an object or a list, None where there is none."""
        return await self._ask("GET", path)

    async def create(self, path: str, body: Object) -> Object:
        """Create an object; raise Changed where one of its name is there already."""
        return await self._certain("POST", path, body)

    async def patch(self, path: str, body: Object) -> Object:
        """Change an object by a JSON merge patch; raise Changed where it isn't the version that the patch names."""
        return await self._certain("PATCH", path, body, kind=MERGE)

    async def apply(self, path: str, body: Object) -> Object:
        """Make an object what it is to be, by server-side apply."""
        query = f"?fieldManager={FIELD_MANAGER}&force=true"
        return await self._certain("PATCH", path + query, body, kind=APPLY)

    async def delete(self, path: str, *, uid: str | None = None) -> None:
        """Delete an object, only the one of a uid if wanted; nothing happens where it is gone."""
        body: Object = {"propagationPolicy": "Background"}
        if uid is not None:
            body["preconditions"] = {"uid": uid}
        await self._ask("DELETE", path, body)

    async def _certain(self, method: str, path: str, body: Object, *, kind: str = "application/json") -> Object:
        answer = await self._ask(method, path, body, kind=kind)
        if answer is None:
            # What is patched or created in is gone.
            raise Changed(f"{path.partition('?')[0]} is gone")
        return answer

    async def _ask(
        self, method: str, path: str, body: Object | None = None, *, kind: str = "application/json"
    ) -> Object | None:
        trouble = ""
        for attempt in range(TRIES):
            if attempt:
                await asyncio.sleep(FIRST_PAUSE * 2**attempt * random.uniform(0.5, 1))  # noqa: S311 - it spreads load, and is no secret
            try:
                status, answer = await self._once(method, path, body, kind)
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                trouble = type(error).__name__
                continue
            if status < 300:
                return answer
            if status == 404:
                return None
            if status == 409:
                raise Changed(_message(answer))
            if status == 401:
                # Replaced on disk since, or about to be.
                self._read_at = 0.0
            elif status not in _RETRIED:
                raise Refused(_message(answer))
            trouble = f"{status}: {_message(answer)}"
        raise KubernetesUnavailable(trouble)

    async def _once(self, method: str, path: str, body: Object | None, kind: str) -> tuple[int, Object]:
        if self._session is None:
            raise RuntimeError("the session is not open")
        loop = asyncio.get_running_loop()
        if loop.time() - self._read_at > CREDENTIALS_SECONDS:
            fresh = await loop.run_in_executor(None, self._find)
            if fresh != self._info:
                self._info, self._ssl = fresh, _ssl_of(fresh)
            self._read_at = loop.time()
        async with self._session.request(
            method,
            self._info.server.rstrip("/") + path,
            data=None if body is None else json.dumps(body),
            headers={"Content-Type": kind, "Accept": "application/json", **self._info.as_http_headers()},
            ssl=self._ssl,
        ) as response:
            text = await response.text()
            try:
                answer = json.loads(text) if text else {}
            except ValueError:
                answer = {"message": text[:200]}
            return response.status, answer if isinstance(answer, dict) else {}


def find_credentials() -> kopf.ConnectionInfo:
    """Return how to reach the API server: by KUBECONFIG where it is set, else as the pod's service account.

    Raises kopf.LoginError where there is neither.
    """
    settings = kopf.OperatorSettings()
    if os.environ.get("KUBECONFIG"):
        info = kopf.login_with_kubeconfig(settings=settings)
    else:
        info = kopf.login_with_service_account(settings=settings)
        host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
        if info is not None and host:
            # Kopf asks for kubernetes.default.svc, which needs a DNS; every pod has these two.
            info = replace(info, server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}")
    if info is None:
        raise kopf.LoginError("neither KUBECONFIG nor a service account's token is there")
    return info


def secret_path(namespace: str, name: str = "") -> str:
    """Return the path of a Secret, or of a namespace's Secrets."""
    return _path(f"/api/v1/namespaces/{namespace}/secrets", name)


def namespace_path(name: str) -> str:
    """Return the path of a namespace."""
    return f"/api/v1/namespaces/{name}"


def custom_path(group: str, version: str, namespace: str | None, plural: str, name: str = "") -> str:
    """Return the path of an object of a group, or of all in a namespace, or (None) of all there are."""
    middle = f"/namespaces/{namespace}" if namespace is not None else ""
    return _path(f"/apis/{group}/{version}{middle}/{plural}", name)


def _path(collection: str, name: str) -> str:
    return f"{collection}/{name}" if name else collection


def _message(answer: Mapping[str, Any]) -> str:
    return str(answer.get("message") or answer.get("reason") or "no reason given")


def _ssl_of(info: kopf.ConnectionInfo) -> ssl.SSLContext | bool:
    return info.as_ssl_context() if info.server.startswith("https:") else True
