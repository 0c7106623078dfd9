"""Objects in S3 or a compatible store, through aiobotocore.

Uploads are streamed: a small object is one PUT, a larger one a multipart upload with parts of constant size, so memory
use doesn't grow with the file. Every call has a timeout. Deleting an object also aborts its unfinished multipart
uploads.
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

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession, get_session
from aiohttp import ClientError as HttpError
from botocore.exceptions import BotoCoreError, ClientError

from imago.core.times import utc_now
from imago.objects.disposition import content_disposition
from imago.objects.s3_reader import RangeReader
from imago.objects.signing import private_cache
from imago.objects.store import (
    ObjectInfo,
    ObjectMissing,
    ObjectWriter,
    StorageFull,
    StorageUnavailable,
    T,
    UrlRequest,
)
from imago.runtime.startup import StartupError
from imago.settings.storage import StorageSettings

# The size of a multipart upload's parts, of which an upload holds one. S3 allows at most 10,000 parts, all but the last
# of at least 5 MiB. Some compatible stores also require all but the last to have the same size.
PART_BYTES = 5 * 2**20

# A growing buffer is up to an eighth larger than what it contains.
_SPARE = 8

# The read-ahead of a reader: it mostly covers all reads of an image's header.
BLOCK_BYTES = 128 * 1024

# The number of concurrent requests of a process; its uploads, reads and checks stay far below.
_MAX_CONNECTIONS = 64

# Attempts per request, including the first. Longer outages are retried by the worker or the client.
_MAX_ATTEMPTS = 3

# The maximum expiry of a URL with signature version 4.
_MAX_URL_SECONDS = 7 * 24 * 3600

# The number of URLs that are kept, the newest: about 15 MB.
_MAX_URLS = 10_000

# Cleaning up after a failed upload must not delay the response much further.
_CLEANUP_SECONDS = 10.0

# The response to a HEAD has no body and hence no S3 error code, only the HTTP status.
_MISSING = frozenset({("GetObject", "NoSuchKey"), ("HeadObject", "404"), ("DeleteObject", "NoSuchKey")})
_FULL = re.compile(r"InsufficientStorage|StorageFull|QuotaExceeded")

# The form of S3 error codes; anything else that a server sends as code is not logged.
_ERROR_CODE = re.compile(r"[A-Za-z0-9]{1,64}")

# Checksums in the response to a part are sent back with the list of parts.
_PART_CHECKSUMS = ("ChecksumCRC32", "ChecksumCRC32C", "ChecksumSHA256", "ChecksumCRC64NVME")

# The headers of an object that is opened without the parameters of a signed URL: a download that no browser renders.
_INERT = {"ContentType": "application/octet-stream", "ContentDisposition": "attachment"}


class _NoSuchUpload(StorageUnavailable):
    """The multipart upload doesn't exist, or no longer exists."""


class S3Store:
    """An `ObjectStore` in a bucket. Call `open` before use and `close` after.

    Raises StartupError if settings are missing or invalid.
    """

    def __init__(self, settings: StorageSettings) -> None:
        if not settings.s3_bucket:
            raise StartupError("STORAGE_BACKEND=s3 needs S3_BUCKET")
        if (settings.s3_access_key is None) != (settings.s3_secret_key is None):
            raise StartupError("S3_ACCESS_KEY and S3_SECRET_KEY must be set together")
        self._settings = settings
        self._bucket = settings.s3_bucket
        self._timeout = settings.s3_timeout
        self._stack = AsyncExitStack()
        self._client: Any = None
        self._signer: Any = None
        self._urls: dict[UrlRequest, str] = {}

    async def open(self) -> None:
        """Create the clients without connecting; raise StartupError for invalid settings."""
        settings = self._settings
        # One session, so that temporary credentials of a role are fetched and refreshed once for both clients.
        session = get_session()
        try:
            self._client = await self._stack.enter_async_context(self._connect(session, settings.s3_endpoint_url))
            self._signer = self._client
            if settings.s3_public_endpoint_url:
                # A signature covers the host name, so URLs are signed by a client with the public endpoint.
                public = self._connect(session, settings.s3_public_endpoint_url)
                self._signer = await self._stack.enter_async_context(public)
        except (BotoCoreError, ValueError) as error:
            await self.close()
            # Their texts may contain the URL.
            raise StartupError(f"invalid S3 settings ({type(error).__name__})") from None

    def write_buffer(self, size: int) -> int:
        """Return the memory of the part that an upload of this size holds while it is received and sent."""
        part = min(size, PART_BYTES)
        return part + part // _SPARE

    @asynccontextmanager
    async def create(self, key: str) -> AsyncIterator[ObjectWriter]:
        """Write an object under a new key; without `commit`, the block leaves nothing behind."""
        writer = _S3Writer(self, key)
        try:
            yield writer
        finally:
            # Shielded, because a cancelled upload also ends here.
            await asyncio.shield(writer.discard())

    async def put(self, key: str, path: Path, *, content_type: str) -> None:
        """Store a small file, replacing an existing object."""
        body = await asyncio.to_thread(path.read_bytes)
        await self.call("put_object", Key=key, Body=body, ContentType=content_type)

    async def size(self, key: str) -> int | None:
        """Return an object's size in bytes, or None if it doesn't exist."""
        try:
            return int((await self.call("head_object", Key=key))["ContentLength"])
        except ObjectMissing:
            # A HEAD doesn't distinguish a missing object from a missing bucket: the first means that an image is lost,
            # the second that the store is unavailable.
            await self.check()
            return None

    @asynccontextmanager
    async def reader(self, key: str) -> AsyncIterator[BinaryIO]:
        """Open an object as a seekable file to be read in a thread; raise ObjectMissing."""
        size = await self.size(key)
        if size is None:
            raise ObjectMissing(key)

        async def fetch(start: int, length: int) -> bytes:
            return await self._within_timeout(self._range(key, start, length))

        raw = RangeReader(size, fetch, timeout=self._call_timeout)
        stream = io.BufferedReader(raw, BLOCK_BYTES)
        try:
            yield cast(BinaryIO, stream)
        finally:
            # `close` waits for a thread that is still reading, and that thread waits for this event loop.
            raw.end()
            await asyncio.shield(asyncio.to_thread(stream.close))

    async def examine(self, key: str, read: Callable[[BinaryIO], T]) -> T:
        """Return the result of a function that reads the object in a thread; raise ObjectMissing."""
        async with self.reader(key) as stream:
            return await asyncio.to_thread(read, stream)

    @asynccontextmanager
    async def local_copy(self, key: str) -> AsyncIterator[Path]:
        """Yield a temporary local copy; raise ObjectMissing."""
        # Not in a thread, because a cancellation would leave the file behind.
        handle, name = tempfile.mkstemp(prefix="imago-")
        path = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                await self._download(key, file)
            yield path
        finally:
            await asyncio.shield(asyncio.to_thread(path.unlink, missing_ok=True))

    async def delete(self, key: str) -> None:
        """Delete an object and abort its multipart uploads; do nothing if it doesn't exist."""
        # Only S3 knows the uploads of killed processes. No client waits for the extra request.
        listed = await self.call("list_multipart_uploads", Prefix=key)
        for upload in listed.get("Uploads", ()):
            if upload["Key"] == key:
                with contextlib.suppress(_NoSuchUpload):
                    await self.call("abort_multipart_upload", Key=key, UploadId=upload["UploadId"])
        with contextlib.suppress(ObjectMissing):
            await self.call("delete_object", Key=key)

    async def list(self, *, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        """Yield the objects with a prefix, ordered by key."""
        more: dict[str, str] = {}
        while True:
            page = await self.call("list_objects_v2", Prefix=prefix, **more)
            for item in page.get("Contents", ()):
                yield ObjectInfo(item["Key"], int(item["Size"]), item["LastModified"])
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    async def signed_url(self, request: UrlRequest) -> str:
        """Return a URL that serves one object with the request's content type and file name.

        The same request gets the same URL, which browsers cache; a signature contains the time at which it is made.
        """
        url = self._urls.get(request)
        if url is None:
            url = self._urls[request] = await self._sign(request)
            if len(self._urls) > _MAX_URLS:
                del self._urls[next(iter(self._urls))]
        return url

    async def _sign(self, request: UrlRequest) -> str:
        seconds = int((request.expires_at - utc_now()).total_seconds())
        parameters = {
            "Bucket": self._bucket,
            "Key": request.key,
            "ResponseContentType": request.content_type,
            "ResponseCacheControl": private_cache(request.expires_at),
            "ResponseContentDisposition": content_disposition(request.disposition, request.filename),
        }
        # Signing sends no request to S3, but it may have to refresh credentials.
        url: str = await self._within_timeout(
            self._signer.generate_presigned_url(
                "get_object", Params=parameters, ExpiresIn=min(max(seconds, 1), _MAX_URL_SECONDS)
            )
        )
        return url

    async def check(self) -> None:
        """Raise StorageUnavailable if the bucket can't be reached."""
        await self.call("head_bucket")

    async def close(self) -> None:
        """Close all connections."""
        await self._stack.aclose()

    async def call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """Send a request for the bucket; raise ObjectMissing, StorageFull or StorageUnavailable."""
        response: dict[str, Any] = await self._within_timeout(
            getattr(self._client, operation)(Bucket=self._bucket, **parameters)
        )
        return response

    async def _within_timeout(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            async with asyncio.timeout(self._call_timeout):
                return await work
        except ClientError as error:
            raise _translated(error) from None
        except (BotoCoreError, HttpError, OSError, TimeoutError) as error:
            # Their texts contain the endpoint's URL.
            raise StorageUnavailable(type(error).__name__) from None

    async def _range(self, key: str, start: int, length: int) -> bytes:
        range_header = f"bytes={start}-{start + length - 1}"
        response = await self._client.get_object(Bucket=self._bucket, Key=key, Range=range_header)
        async with response["Body"] as body:
            return cast(bytes, await body.read())

    async def _download(self, key: str, file: BinaryIO) -> None:
        response = await self.call("get_object", Key=key)
        size = 0
        async with response["Body"] as body:
            while chunk := await self._within_timeout(body.read(2**20)):
                size += len(chunk)
                await asyncio.to_thread(file.write, chunk)
        if size != response["ContentLength"]:
            raise StorageUnavailable("the response ended early")

    @property
    def _call_timeout(self) -> float:
        """Seconds for one call with all attempts; the client has its own timeout for each attempt."""
        return self._timeout * (_MAX_ATTEMPTS + 1)

    def _connect(self, session: AioSession, endpoint: str | None) -> Any:
        settings = self._settings
        access, secret = settings.s3_access_key, settings.s3_secret_key
        return session.create_client(
            "s3",
            endpoint_url=endpoint,
            region_name=settings.s3_region,
            # If unset, botocore's default chain applies: environment, web identity (IRSA), instance role.
            aws_access_key_id=access.get_secret_value() if access else None,
            aws_secret_access_key=secret.get_secret_value() if secret else None,
            config=AioConfig(
                signature_version="s3v4",
                connect_timeout=min(settings.s3_timeout, 10.0),
                read_timeout=settings.s3_timeout,
                max_pool_connections=_MAX_CONNECTIONS,
                retries={"mode": "standard", "total_max_attempts": _MAX_ATTEMPTS},
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
        self._sent = False
        self._committed = False

    async def write(self, chunk: bytes) -> None:
        self._buffer += chunk
        self._size += len(chunk)
        while len(self._buffer) >= PART_BYTES:
            await self._send_part()

    async def commit(self) -> None:
        if self._upload is None:
            self._sent = True
            # The client adds a checksum, which the server verifies before it stores the object.
            await self._store.call("put_object", Key=self._key, Body=self._take(), **_INERT)
        else:
            if self._buffer:
                await self._send_part()
            await self._complete(self._upload)
        self._committed = True

    async def discard(self) -> None:
        self._buffer = bytearray()
        if self._committed or not self._sent:
            return
        # A request without a response may still have been executed, so everything under the key is deleted. If this
        # fails, the object cleaner does it: the upload's intent becomes a tombstone.
        with contextlib.suppress(StorageUnavailable, TimeoutError):
            async with asyncio.timeout(_CLEANUP_SECONDS):
                await self._store.delete(self._key)

    def _take(self) -> bytes:
        with memoryview(self._buffer) as view:
            part = bytes(view[:PART_BYTES])
        del self._buffer[:PART_BYTES]
        return part

    async def _send_part(self) -> None:
        self._sent = True
        if self._upload is None:
            created = await self._store.call("create_multipart_upload", Key=self._key, **_INERT)
            self._upload = created["UploadId"]
        number = len(self._parts) + 1
        response = await self._store.call(
            "upload_part", Key=self._key, UploadId=self._upload, PartNumber=number, Body=self._take()
        )
        checksums = {name: value for name, value in response.items() if name in _PART_CHECKSUMS}
        self._parts.append({"PartNumber": number, "ETag": response["ETag"], **checksums})

    async def _complete(self, upload: str) -> None:
        try:
            await self._store.call(
                "complete_multipart_upload",
                Key=self._key,
                UploadId=upload,
                MultipartUpload={"Parts": self._parts},
            )
        except _NoSuchUpload:
            # A retry after a lost response fails like this although the object exists.
            if await self._store.size(self._key) != self._size:
                raise


def _translated(error: ClientError) -> Exception:
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    if code == "NoSuchUpload":
        return _NoSuchUpload("the multipart upload does not exist")
    if (error.operation_name, code) in _MISSING:
        return ObjectMissing("object not found")
    if (error.operation_name, code) == ("HeadBucket", "404"):
        code = "NoSuchBucket"
    if status == 507 or _FULL.search(code):
        return StorageFull("no space left")
    return StorageUnavailable(f"S3 returned {code if _ERROR_CODE.fullmatch(code) else status}")
