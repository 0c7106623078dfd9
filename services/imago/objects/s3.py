"""Objects in S3, or in whatever speaks its language, through aiobotocore.

Uploads are streamed: a small object is one PUT, a larger one a multipart upload of parts of constant size, so memory
doesn't grow with the file. Every call has a deadline; what a killed process left unfinished goes with the object's
deletion.
"""

import asyncio
import contextlib
import io
import os
import re
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession, get_session
from aiohttp import ClientError as HttpError
from botocore.exceptions import BotoCoreError, ClientError

from imago.core.times import utc_now
from imago.objects.disposition import content_disposition
from imago.objects.s3_reader import RangeReader
from imago.objects.store import (
    ObjectInfo,
    ObjectMissing,
    ObjectWriter,
    StorageFull,
    StorageUnavailable,
    T,
    UrlRequest,
)
from imago.settings.storage import StorageSettings
from imago.startup import StartupError

# A multipart upload's parts; S3 takes none under 5 MiB but the last, and 10,000 at most. Some stores that speak its
# language want all but the last to be of one size.
PART_BYTES = 8 * 2**20

# A read of a header takes this much at once; what follows is mostly in it.
BLOCK_BYTES = 128 * 1024

# One process's requests at once; uploads, workers' reads and checks together stay far below it.
_POOL = 64

# Tries of one request, the first included; slower trouble is the worker's or the client's to repeat.
_TRIES = 3

# Signature version 4 allows no longer life of a URL.
_LONGEST_URL = 7 * 24 * 3600

# Cleaning up behind a failed upload must not keep its sender waiting as long as the failure did.
_CLEANUP_SECONDS = 10.0

# An answer to a HEAD has no body and so no code of S3's own.
_MISSING = frozenset({("GetObject", "NoSuchKey"), ("HeadObject", "404"), ("DeleteObject", "NoSuchKey")})
_FULL = re.compile(r"InsufficientStorage|StorageFull|QuotaExceeded")

# What a code of an error looks like; anything else a server sends as one is not repeated.
_CODE = re.compile(r"[A-Za-z0-9]{1,64}")

# What the server answers of a part's checksum goes back to it with the list of parts.
_PART_CHECKSUMS = ("ChecksumCRC32", "ChecksumCRC32C", "ChecksumSHA256", "ChecksumCRC64NVME")

# What an object is if a URL without our parameters ever opened it: a download of bytes, which nothing runs.
_INERT = {"ContentType": "application/octet-stream", "ContentDisposition": "attachment"}


class _UploadGone(StorageUnavailable):
    """There is no multipart upload of that id, or no longer."""


class S3Store:
    """An `ObjectStore` in a bucket; `open` it before use, `close` it in the end.

    Raises StartupError if settings are missing or unusable.
    """

    def __init__(self, settings: StorageSettings) -> None:
        if not settings.s3_bucket:
            raise StartupError("STORAGE_BACKEND=s3 needs S3_BUCKET")
        if (settings.s3_access_key is None) != (settings.s3_secret_key is None):
            raise StartupError("S3_ACCESS_KEY and S3_SECRET_KEY go together")
        _check_url("S3_ENDPOINT_URL", settings.s3_endpoint_url)
        _check_url("S3_PUBLIC_ENDPOINT_URL", settings.s3_public_endpoint_url)
        self._settings = settings
        self._bucket = settings.s3_bucket
        self._timeout = settings.s3_timeout
        self._stack = AsyncExitStack()
        self._client: Any = None
        self._signer: Any = None

    async def open(self) -> None:
        """Make the clients, which don't ask the store for anything yet; raise StartupError for unusable settings."""
        settings = self._settings
        # One session, so that keys that a role lends are fetched and renewed once for both.
        session = get_session()
        try:
            self._client = await self._stack.enter_async_context(self._connect(session, settings.s3_endpoint_url))
            self._signer = self._client
            if settings.s3_public_endpoint_url:
                # A signature holds the host's name, so another client, which knows the name outside, signs the URLs.
                public = self._connect(session, settings.s3_public_endpoint_url)
                self._signer = await self._stack.enter_async_context(public)
        except (BotoCoreError, ValueError) as error:
            await self.close()
            # Their texts may hold the URL.
            raise StartupError(f"S3 cannot be used with these settings ({type(error).__name__})") from None

    @asynccontextmanager
    async def create(self, key: str) -> AsyncIterator[ObjectWriter]:
        """Begin an object under a new key; leaving the block without `commit` leaves nothing behind."""
        writer = _S3Writer(self, key)
        try:
            yield writer
        finally:
            # Shielded, because this is also how a cancelled upload ends.
            await asyncio.shield(writer.discard())

    async def put(self, key: str, path: Path, *, content_type: str) -> None:
        """Store a small finished file, in place of what the key held."""
        body = await asyncio.to_thread(path.read_bytes)
        await self.call("put_object", Key=key, Body=body, ContentType=content_type)

    async def size(self, key: str) -> int | None:
        """Return an object's size in bytes, or None where there is none."""
        try:
            return int((await self.call("head_object", Key=key))["ContentLength"])
        except ObjectMissing:
            # A HEAD doesn't tell a missing object from a missing bucket, and the difference is that between one image
            # that is lost and a store to wait for.
            await self.check()
            return None

    @asynccontextmanager
    async def reader(self, key: str) -> AsyncIterator[BinaryIO]:
        """Open an object for seeking and reading in a thread; raises ObjectMissing."""
        size = await self.size(key)
        if size is None:
            raise ObjectMissing(key)

        async def fetch(start: int, length: int) -> bytes:
            return await self._within(self._range(key, start, length))

        raw = RangeReader(size, fetch, deadline=self._deadline)
        stream = io.BufferedReader(raw, BLOCK_BYTES)
        try:
            yield cast(BinaryIO, stream)
        finally:
            # Closing waits for a thread that still reads, and that thread for this loop.
            raw.end()
            await asyncio.shield(asyncio.to_thread(stream.close))

    async def examine(self, key: str, read: Callable[[BinaryIO], T]) -> T:
        """Return what a function makes of an object that seeks, in a thread; raises ObjectMissing."""
        async with self.reader(key) as stream:
            return await asyncio.to_thread(read, stream)

    @asynccontextmanager
    async def local_copy(self, key: str) -> AsyncIterator[Path]:
        """Give a copy to read from while the block lasts; raises ObjectMissing."""
        # Made here and not in a thread, because a cancellation in between would leave the file behind.
        handle, name = tempfile.mkstemp(prefix="imago-")
        path = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                await self._download(key, file)
            yield path
        finally:
            await asyncio.shield(asyncio.to_thread(path.unlink, missing_ok=True))

    async def delete(self, key: str) -> None:
        """Delete an object and what a killed process had uploaded of it; nothing happens where there is none."""
        # Only S3 knows what was begun, and asking it costs one request in a thing that nobody waits for.
        begun = await self.call("list_multipart_uploads", Prefix=key)
        for upload in begun.get("Uploads", ()):
            if upload["Key"] == key:
                with contextlib.suppress(_UploadGone):
                    await self.call("abort_multipart_upload", Key=key, UploadId=upload["UploadId"])
        with contextlib.suppress(ObjectMissing):
            await self.call("delete_object", Key=key)

    async def list(self, *, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        """Give all objects under a prefix, in the order of their keys."""
        more: dict[str, str] = {}
        while True:
            page = await self.call("list_objects_v2", Prefix=prefix, **more)
            for item in page.get("Contents", ()):
                yield ObjectInfo(item["Key"], int(item["Size"]), item["LastModified"])
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    async def signed_url(self, request: UrlRequest) -> str:
        """Return a URL that opens one object under the type and name that the request says."""
        seconds = int((request.expires_at - utc_now()).total_seconds())
        parameters = {
            "Bucket": self._bucket,
            "Key": request.key,
            "ResponseContentType": request.content_type,
            "ResponseContentDisposition": content_disposition(request.disposition, request.filename),
        }
        # Signing needs no server, but the keys may have to be renewed.
        url: str = await self._within(
            self._signer.generate_presigned_url(
                "get_object", Params=parameters, ExpiresIn=min(max(seconds, 1), _LONGEST_URL)
            )
        )
        return url

    async def check(self) -> None:
        """Raise StorageUnavailable unless the bucket answers."""
        await self.call("head_bucket")

    async def close(self) -> None:
        """Let go of connections."""
        await self._stack.aclose()

    async def call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """Make a request on the bucket; raise ObjectMissing, StorageFull or StorageUnavailable."""
        answer: dict[str, Any] = await self._within(getattr(self._client, operation)(Bucket=self._bucket, **parameters))
        return answer

    async def _within(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            async with asyncio.timeout(self._deadline):
                return await work
        except ClientError as error:
            raise _mapped(error) from None
        except (BotoCoreError, HttpError, OSError, TimeoutError) as error:
            # Their texts hold the endpoint's URL.
            raise StorageUnavailable(type(error).__name__) from None

    async def _range(self, key: str, start: int, length: int) -> bytes:
        wanted = f"bytes={start}-{start + length - 1}"
        answer = await self._client.get_object(Bucket=self._bucket, Key=key, Range=wanted)
        async with answer["Body"] as body:
            return cast(bytes, await body.read())

    async def _download(self, key: str, file: BinaryIO) -> None:
        answer = await self.call("get_object", Key=key)
        size = 0
        async with answer["Body"] as body:
            while chunk := await self._within(body.read(2**20)):
                size += len(chunk)
                await asyncio.to_thread(file.write, chunk)
        if size != answer["ContentLength"]:
            raise StorageUnavailable("the object broke off")

    @property
    def _deadline(self) -> float:
        """Seconds for one call with its repetitions: each has a deadline of its own in the client."""
        return self._timeout * (_TRIES + 1)

    def _connect(self, session: AioSession, endpoint: str | None) -> Any:
        settings = self._settings
        access, secret = settings.s3_access_key, settings.s3_secret_key
        return session.create_client(
            "s3",
            endpoint_url=endpoint,
            region_name=settings.s3_region,
            # Unset, the usual chain: environment, web identity (IRSA), instance role.
            aws_access_key_id=access.get_secret_value() if access else None,
            aws_secret_access_key=secret.get_secret_value() if secret else None,
            config=AioConfig(
                signature_version="s3v4",
                connect_timeout=min(settings.s3_timeout, 10.0),
                read_timeout=settings.s3_timeout,
                max_pool_connections=_POOL,
                retries={"mode": "standard", "total_max_attempts": _TRIES},
                s3={"addressing_style": settings.s3_addressing},
            ),
        )


class _S3Writer:
    def __init__(self, store: S3Store, key: str) -> None:
        self._store = store
        self._key = key
        self._buffer = bytearray()
        self._size = 0
        self._upload: str | None = None
        self._parts: list[dict[str, Any]] = []
        self._begun = False
        self._committed = False

    async def write(self, chunk: bytes) -> None:
        self._buffer += chunk
        self._size += len(chunk)
        while len(self._buffer) >= PART_BYTES:
            await self._send_part()

    async def commit(self) -> None:
        if self._upload is None:
            self._begun = True
            # The client sends a checksum with it, which the server compares before it stores anything.
            await self._store.call("put_object", Key=self._key, Body=self._take(), **_INERT)
        else:
            if self._buffer:
                await self._send_part()
            await self._complete(self._upload)
        self._committed = True

    async def discard(self) -> None:
        self._buffer = bytearray()
        if self._committed or not self._begun:
            return
        # A request without an answer may have been done all the same, so everything under the key goes. What can't be
        # cleaned up now, the sweeper deletes with the upload's intent.
        with contextlib.suppress(StorageUnavailable, TimeoutError):
            async with asyncio.timeout(_CLEANUP_SECONDS):
                await self._store.delete(self._key)

    def _take(self) -> bytes:
        with memoryview(self._buffer) as view:
            part = bytes(view[:PART_BYTES])
        del self._buffer[:PART_BYTES]
        return part

    async def _send_part(self) -> None:
        self._begun = True
        if self._upload is None:
            begun = await self._store.call("create_multipart_upload", Key=self._key, **_INERT)
            self._upload = begun["UploadId"]
        number = len(self._parts) + 1
        done = await self._store.call(
            "upload_part", Key=self._key, UploadId=self._upload, PartNumber=number, Body=self._take()
        )
        checksums = {name: value for name, value in done.items() if name in _PART_CHECKSUMS}
        self._parts.append({"PartNumber": number, "ETag": done["ETag"], **checksums})

    async def _complete(self, upload: str) -> None:
        try:
            await self._store.call(
                "complete_multipart_upload",
                Key=self._key,
                UploadId=upload,
                MultipartUpload={"Parts": self._parts},
            )
        except _UploadGone:
            # Where the answer was lost, its repetition finds the upload gone and the object there.
            if await self._store.size(self._key) != self._size:
                raise


def _check_url(name: str, url: str | None) -> None:
    if url is None:
        return
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise StartupError(f"{name} must begin with http:// or https:// and name a host")


def _mapped(error: ClientError) -> Exception:
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    if code == "NoSuchUpload":
        return _UploadGone("the upload is gone")
    if (error.operation_name, code) in _MISSING:
        return ObjectMissing("no such object")
    if (error.operation_name, code) == ("HeadBucket", "404"):
        code = "NoSuchBucket"
    if status == 507 or _FULL.search(code):
        return StorageFull("no room left")
    return StorageUnavailable(f"S3 answered {code if _CODE.fullmatch(code) else status}")
