"""Stores on local files and on a real S3 server."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from devtools.s3 import ACCESS_KEY, BUCKET, SECRET_KEY, S3Server, make_bucket
from imago.objects.local import LocalStore
from imago.objects.s3 import S3Store
from imago.objects.store import ObjectStore
from imago.settings import Settings


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server."""
    server = S3Server(tmp_path_factory.mktemp("s3"))
    server.start()
    yield server
    server.stop()


def s3_settings(url: str, **changes: Any) -> Settings:
    """Return the settings for an S3 server."""
    return Settings(
        storage_backend="s3",
        s3_bucket=BUCKET,
        s3_endpoint_url=url,
        s3_access_key=ACCESS_KEY,
        s3_secret_key=SECRET_KEY,
        **changes,
    )


@pytest.fixture
async def s3(s3_server: S3Server) -> AsyncIterator[S3Store]:
    """An empty bucket."""
    await make_bucket(s3_server.url)
    store = S3Store(s3_settings(s3_server.url))
    await store.open()
    async for info in store.list():
        await store.delete(info.key)
    yield store
    await store.close()


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """An empty store of each kind."""
    if request.param == "s3":
        bucket: ObjectStore = request.getfixturevalue("s3")
        return bucket
    local = LocalStore(tmp_path / "objects", url_secret="s")
    local.prepare()
    return local
