"""Settings of S3 that are refused before a connection is made."""

import pytest

from imago.objects.s3 import S3Store
from imago.settings import Settings
from imago.startup import StartupError


@pytest.mark.parametrize("url", ["localhost:9000", "ftp://127.0.0.1", "http://", "http://["])
def test_an_invalid_endpoint_is_named(url: str) -> None:
    with pytest.raises(StartupError, match="S3_ENDPOINT_URL must be an http:// or https:// URL with a host"):
        S3Store(Settings(storage_backend="s3", s3_bucket="images", s3_endpoint_url=url))
