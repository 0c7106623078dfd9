"""A real S3 server for tests, which can be killed and restarted with its data."""

import json
import os
import random
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ACCESS_KEY = "access-key-of-the-tests"
SECRET_KEY = "secret-key-of-the-tests"
BUCKET = "imago-test"


class S3Server:
    """A SeaweedFS process on free ports of 127.0.0.1 or another address, with one identity and one bucket."""

    def __init__(self, directory: Path, *, address: str = "127.0.0.1") -> None:
        self._directory = directory
        self._address = address
        directory.mkdir(parents=True, exist_ok=True)
        self._ports = dict(zip(("master", "volume", "filer", "s3"), _port_pairs(4), strict=True))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The endpoint."""
        return f"http://{self._address}:{self._ports['s3']}"

    @property
    def port(self) -> int:
        """The endpoint's port."""
        return self._ports["s3"]

    def environment(self) -> dict[str, str]:
        """The settings of a process that uses this server."""
        return {
            "STORAGE_BACKEND": "s3",
            "S3_BUCKET": BUCKET,
            "S3_ENDPOINT_URL": self.url,
            "S3_ACCESS_KEY": ACCESS_KEY,
            "S3_SECRET_KEY": SECRET_KEY,
        }

    def start(self) -> None:
        """Start the server and wait until it responds."""
        identity = {
            "name": "tests",
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        config = self._directory / "s3.json"
        config.write_text(json.dumps({"identities": [identity]}))
        data = self._directory / "data"
        data.mkdir(exist_ok=True)
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    Path(sys.executable).parent / "weed",
                    "server",
                    f"-dir={data}",
                    f"-ip={self._address}",
                    f"-ip.bind={self._address}",
                    "-master.telemetry=false",
                    "-master.volumeSizeLimitMB=64",
                    f"-master.port={self._ports['master']}",
                    f"-volume.port={self._ports['volume']}",
                    "-volume.max=0",
                    "-filer",
                    f"-filer.port={self._ports['filer']}",
                    "-s3",
                    f"-s3.port={self._ports['s3']}",
                    f"-s3.config={config}",
                    "-s3.domainName=localhost",
                    # These would listen on fixed ports by default, so two servers could not run at the same time.
                    "-s3.port.iceberg=0",
                    "-s3.port.lance=0",
                ],
                stdout=log,
                stderr=log,
                env={**os.environ, "HOME": str(self._directory)},
                cwd=self._directory,
            )
        deadline = time.monotonic() + 40
        while not self._answers():
            assert self._process.poll() is None, f"the S3 server ended, see {self._directory / 'log'}"
            assert time.monotonic() < deadline, "the S3 server was not ready after 40 s"
            time.sleep(0.1)

    def _answers(self) -> bool:
        # A refusal of the unsigned request shows that the server is running; a signed request creates the bucket.
        try:
            urllib.request.urlopen(f"{self.url}/", timeout=2).close()
        except urllib.error.HTTPError:
            return True
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False
        return True

    def kill(self) -> None:
        """Kill the server, as in a crash."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Stop the server."""
        if self._process is not None and self._process.poll() is None:
            # SIGTERM takes 15 seconds, and the data is no longer needed.
            self.kill()
        for port in self._ports.values():
            for used in (port, port + 10_000):
                for left in Path("/tmp").glob(f"seaweedfs-*-{used}.sock"):
                    left.unlink(missing_ok=True)


async def make_bucket(url: str, name: str = BUCKET) -> None:
    """Create a bucket if it does not exist, as an administrator does before installing Imago."""
    from aiobotocore.session import get_session

    client = get_session().create_client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
    )
    async with client as s3:
        if name not in [bucket["Name"] for bucket in (await s3.list_buckets())["Buckets"]]:
            await s3.create_bucket(Bucket=name)


def _port_pairs(count: int) -> list[int]:
    """Return free ports whose gRPC twin (10,000 above) is free as well.

    They are random, so that concurrent test runs do not try the same ports. Both are below the range from which the
    system assigns ports to outgoing connections.
    """
    found: list[int] = []
    for port in random.sample(range(11_000, 21_000), 1000):
        if len(found) == count:
            return found
        if _free(port) and _free(port + 10_000):
            found.append(port)
    raise AssertionError("no free ports")


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
