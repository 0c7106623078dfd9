"""Objects in S3, or in whatever speaks its language, through aiobotocore.

Uploads are streamed: a small object is one PUT, a larger one a multipart upload of parts of constant size, so memory
doesn't grow with the file. Every call has a deadline; what a killed process left unfinished goes with the object's
deletion.
"""

import asyncio
import contextlib
import io
import os
import tempfile
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import structlog
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from aiohttp import ClientError as HttpError
from botocore.exceptions import BotoCoreError, ClientError

from imago.domain.times import utc_now
from imago.settings import Settings
from imago.storage.disposition import content_disposition
from imago.storage.s3_reader import RangeReader
from imago.storage.store import ObjectInfo, ObjectMissing, ObjectWriter, StorageFull, StorageUnavailable, UrlRequest

log = structlog.get_logger(__name__)

T = TypeVar("T")

# A multipart upload's parts; S3 takes none under 5 MiB but the last, and 10,000 at most.
PART_BYTES = 8 * 2**20

# A read of a header takes this much at once; what follows is mostly in it.
BLOCK_BYTES = 128 * 1024

# One process's requests at once; uploads, workers' reads and checks together stay far below it.
_POOL = 64

# Tries of one request, the first included; slower trouble is the worker's or the client's to repeat.
_TRIES = 3

# Signature version 4 allows no longer life of a URL.
_LONGEST_URL = 7 * 24 * 3600

_MISSING = frozenset({"NoSuchKey", "404", "NotFound", "NoSuchUpload"})
_FULL = frozenset({"507", "InsufficientStorage", "XMinioStorageFull", "QuotaExceeded", "EntityTooLarge"})

# What the server answers of a part's checksum goes back to it with the list of parts.
_PART_CHECKSUMS = ("ChecksumCRC32", "ChecksumCRC32C", "ChecksumSHA256", "ChecksumCRC64NVME")

# What an object is if a URL without our parameters ever opened it: a download of bytes, which nothing runs.
_INERT = {"ContentType": "application/octet-stream", "ContentDisposition": "attachment"}


class S3Store:
    """An `ObjectStore` in a bucket; `open` it before use, `close` it in the end."""

    def __init__(self, settings: Settings) -> None:
        if not settings.s3_bucket:
            raise ValueError("STORAGE_BACKEND=s3 needs S3_BUCKET")
        if (settings.s3_access_key is None) != (settings.s3_secret_key is None):
            raise ValueError("S3_ACCESS_KEY and S3_SECRET_KEY go together")
        self._settings = settings
        self._bucket = settings.s3_bucket
        self._timeout = settings.s3_timeout
        self._stack = AsyncExitStack()
        self._client: Any = None
        self._signer: Any = None

    async def open(self) -> None:
        """Make the clients; nothing connects yet."""
        settings = self._settings
        self._client = await self._stack.enter_async_context(self._connect(settings.s3_endpoint_url))
        # A signature holds the host's name, so URLs for the outside are signed by a client that knows that name.
        public = settings.s3_public_endpoint_url or settings.s3_endpoint_url
        self._signer = await self._stack.enter_async_context(self._connect(public))

    @asynccontextmanager
    async def create(self, key: str) -> AsyncIterator[ObjectWriter]:
        """Begin an object; leaving the block without `commit` leaves nothing behind."""
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
            return None

    @asynccontextmanager
    async def reader(self, key: str) -> AsyncIterator[BinaryIO]:
        """Open an object for seeking and reading in a thread; raises ObjectMissing."""
        size = await self.size(key)
        if size is None:
            raise ObjectMissing(key)

        async def fetch(start: int, length: int) -> bytes:
            answer = await self.call("get_object", Key=key, Range=f"bytes={start}-{start + length - 1}")
            return cast(bytes, await self._within(answer["Body"].read()))

        raw = RangeReader(size, fetch, deadline=self._deadline)
        try:
            yield cast(BinaryIO, io.BufferedReader(raw, BLOCK_BYTES))
        finally:
            raw.close()

    @asynccontextmanager
    async def local_copy(self, key: str) -> AsyncIterator[Path]:
        """Give a copy to read from while the block lasts; raises ObjectMissing."""
        handle, name = await asyncio.to_thread(tempfile.mkstemp, prefix="imago-")
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
                with contextlib.suppress(ObjectMissing):
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
        url: str = await self._signer.generate_presigned_url(
            "get_object", Params=parameters, ExpiresIn=min(max(seconds, 1), _LONGEST_URL)
        )
        return url

    async def check(self) -> None:
        """Raise StorageUnavailable unless the bucket answers."""
        try:
            await self.call("head_bucket")
        except ObjectMissing:
            raise StorageUnavailable("no such bucket") from None

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

    async def _download(self, key: str, file: BinaryIO) -> None:
        answer = await self.call("get_object", Key=key)
        body, size = answer["Body"], 0
        try:
            while chunk := await self._within(body.read(2**20)):
                size += len(chunk)
                await asyncio.to_thread(file.write, chunk)
        finally:
            body.close()
        if size != answer["ContentLength"]:
            raise StorageUnavailable("the object broke off")

    @property
    def _deadline(self) -> float:
        """Seconds for one call with its repetitions: each has a deadline of its own in the client."""
        return self._timeout * (_TRIES + 1)

    def _connect(self, endpoint: str | None) -> Any:
        settings = self._settings
        access, secret = settings.s3_access_key, settings.s3_secret_key
        return get_session().create_client(
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
        self._upload: str | None = None
        self._parts: list[dict[str, Any]] = []
        self._committed = False

    async def write(self, chunk: bytes) -> None:
        self._buffer += chunk
        if len(self._buffer) >= PART_BYTES:
            await self._flush()

    async def commit(self) -> None:
        if self._upload is None:
            # The client sends a checksum with it, which the server compares before it stores anything.
            await self._store.call("put_object", Key=self._key, Body=bytes(self._buffer), **_INERT)
        else:
            if self._buffer:
                await self._flush()
            await self._store.call(
                "complete_multipart_upload",
                Key=self._key,
                UploadId=self._upload,
                MultipartUpload={"Parts": self._parts},
            )
        self._committed = True

    async def discard(self) -> None:
        self._buffer = bytearray()
        if self._committed:
            return
        # What can't be cleaned up now, the sweeper deletes with the upload's intent.
        with contextlib.suppress(StorageUnavailable, ObjectMissing):
            if self._upload is not None:
                await self._store.call("abort_multipart_upload", Key=self._key, UploadId=self._upload)

    async def _flush(self) -> None:
        if self._upload is None:
            begun = await self._store.call("create_multipart_upload", Key=self._key, **_INERT)
            self._upload = begun["UploadId"]
        body, self._buffer = bytes(self._buffer), bytearray()
        number = len(self._parts) + 1
        done = await self._store.call("upload_part", Key=self._key, UploadId=self._upload, PartNumber=number, Body=body)
        checksums = {name: value for name, value in done.items() if name in _PART_CHECKSUMS}
        self._parts.append({"PartNumber": number, "ETag": done["ETag"], **checksums})


def _mapped(error: ClientError) -> Exception:
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = str(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))
    if code in _MISSING:
        return ObjectMissing("no such object")
    if code in _FULL or status in _FULL:
        return StorageFull("no room left")
    return StorageUnavailable(f"S3 answered {code or status}")
