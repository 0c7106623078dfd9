"""A small client of the Kubernetes API for what Kopf does not offer: objects by path, and errors by kind."""

import asyncio
import json
import os
import ssl
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import kopf

from imago_operator.apis.http_client import CONNECTION_ERRORS, TRANSIENT_STATUSES, HttpClient, HttpReply, RetryPolicy

JSON = "application/json"
MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"
FIELD_MANAGER = "imago-operator"

# A projected token is valid for an hour and is replaced on disk long before that; client-go reads it every minute too.
CREDENTIALS_SECONDS = 60.0
# An API server is back within seconds of a restart; a longer outage is left to the next reconciliation. A 401 is
# repeated with credentials read again.
RETRIES = RetryPolicy(attempts=4, first_delay=0.4, statuses=TRANSIENT_STATUSES | {401})

Object = dict[str, Any]


class KubernetesUnavailable(Exception):
    """The API server cannot be reached or replies with a transient error; the request may have taken effect."""


class ObjectConflict(Exception):
    """The object changed after it was read (409), or is gone: read it again and decide again."""


class KubernetesRefused(Exception):
    """The API server rejected the request (403, 422) and would reject it again; the text is the server's."""


class Kubernetes(HttpClient):
    """A client that authenticates as the pod's service account or by a kubeconfig."""

    def __init__(self, *, timeout: float, credentials: Callable[[], kopf.ConnectionInfo] | None = None) -> None:
        super().__init__(timeout=timeout, retries=RETRIES)
        self._read_credentials = credentials or find_credentials
        self._credentials = self._read_credentials()
        self._ssl = _ssl_of(self._credentials)
        self._credentials_read_at = 0.0

    async def get(self, path: str) -> Object | None:
        """Return an object or a list; None if it does not exist."""
        return await self._request("GET", path)

    async def create(self, path: str, body: Object) -> Object:
        """Create an object; raise ObjectConflict if one of its name exists."""
        return await self._write("POST", path, body)

    async def patch(self, path: str, body: Object) -> Object:
        """Apply a JSON merge patch; raise ObjectConflict if the object's version is not the one in the patch."""
        return await self._write("PATCH", path, body, content_type=MERGE)

    async def apply(self, path: str, body: Object) -> Object:
        """Create or update an object by server-side apply."""
        query = f"?fieldManager={FIELD_MANAGER}&force=true"
        return await self._write("PATCH", path + query, body, content_type=APPLY)

    async def delete(self, path: str, *, uid: str | None = None) -> None:
        """Delete an object, if it exists and, where a uid is given, has that uid."""
        body: Object = {"propagationPolicy": "Background"}
        if uid is not None:
            body["preconditions"] = {"uid": uid}
        await self._request("DELETE", path, body)

    async def _write(self, method: str, path: str, body: Object, *, content_type: str = JSON) -> Object:
        written = await self._request(method, path, body, content_type=content_type)
        if written is None:
            # A 404: the object to patch, or the namespace to create in, is gone.
            raise ObjectConflict(f"{path.partition('?')[0]} not found")
        return written

    async def _request(
        self, method: str, path: str, body: Object | None = None, *, content_type: str = JSON
    ) -> Object | None:
        """Return the object of a successful reply, None for a 404; raise an error for any other status."""

        async def send() -> HttpReply:
            await self._refresh_credentials()
            reply = await self._send(
                method,
                self._credentials.server.rstrip("/") + path,
                data=None if body is None else json.dumps(body),
                headers={"Content-Type": content_type, "Accept": JSON, **self._credentials.as_http_headers()},
                ssl=self._ssl,
            )
            if reply.status == 401:
                # The token on disk was replaced since it was read, or is about to be.
                self._credentials_read_at = 0.0
            return reply

        try:
            reply = await self._send_with_retries(send)
        except CONNECTION_ERRORS as error:
            raise KubernetesUnavailable(type(error).__name__) from None
        if reply.status < 300:
            return reply.body if isinstance(reply.body, dict) else {}
        if reply.status == 404:
            return None
        raise _error_of(reply)

    async def _refresh_credentials(self) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() - self._credentials_read_at > CREDENTIALS_SECONDS:
            fresh = await loop.run_in_executor(None, self._read_credentials)
            if fresh != self._credentials:
                self._credentials, self._ssl = fresh, _ssl_of(fresh)
            self._credentials_read_at = loop.time()


def find_credentials() -> kopf.ConnectionInfo:
    """Return the API server's address and credentials: from KUBECONFIG if it is set, else of the service account.

    Raises kopf.LoginError if there is neither.
    """
    settings = kopf.OperatorSettings()
    if os.environ.get("KUBECONFIG"):
        info = kopf.login_with_kubeconfig(settings=settings)
    else:
        info = kopf.login_with_service_account(settings=settings)
        host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
        if info is not None and host:
            # Kopf uses kubernetes.default.svc, which needs DNS; these two variables are set in every pod.
            info = replace(info, server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}")
    if info is None:
        raise kopf.LoginError("no credentials: neither KUBECONFIG nor a service account token found")
    return info


def secret_path(namespace: str, name: str = "") -> str:
    """Return the path of a Secret, or of all Secrets of a namespace."""
    return _path(f"/api/v1/namespaces/{namespace}/secrets", name)


def namespace_path(name: str) -> str:
    """Return the path of a namespace."""
    return f"/api/v1/namespaces/{name}"


def custom_path(group: str, version: str, namespace: str | None, plural: str, name: str = "") -> str:
    """Return the path of an object of an API group, or of all in a namespace, or in all namespaces (None)."""
    middle = f"/namespaces/{namespace}" if namespace is not None else ""
    return _path(f"/apis/{group}/{version}{middle}/{plural}", name)


def _path(collection: str, name: str) -> str:
    return f"{collection}/{name}" if name else collection


def _error_of(reply: HttpReply) -> Exception:
    message = _message(reply.body)
    if reply.status == 409:
        return ObjectConflict(message)
    if reply.status in RETRIES.statuses:
        return KubernetesUnavailable(f"{reply.status}: {message}")
    return KubernetesRefused(message)


def _message(body: Any) -> str:
    if isinstance(body, dict):
        return str(body.get("message") or body.get("reason") or "no reason given")
    return str(body)[:200] or "no reason given"


def _ssl_of(info: kopf.ConnectionInfo) -> ssl.SSLContext | bool:
    return info.as_ssl_context() if info.server.startswith("https:") else True
