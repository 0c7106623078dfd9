"""Clients do not write the logs: every line of an instance is JSON, whatever they send."""

import json
import socket
import struct
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from devtools.instance import Instance
from tests.support.images import encoded, picture


@pytest.fixture
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    running = Instance(tmp_path_factory.mktemp("logs") / "data").start()
    yield running
    running.stop()
    running.kill()


def tiff_of_warnings(entries: int) -> bytes:
    """A small TIFF with further entries that claim 2 GiB each, about each of which a decoder warns."""
    own = ((256, 3, 16), (257, 3, 16), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1), (279, 4, 256))
    table = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in own)
    table += b"".join(struct.pack("<HHII", 700 + number, 2, 0x7FFFFFFF, 8) for number in range(entries))
    return b"II*\0" + struct.pack("<I", 264) + bytes(256) + struct.pack("<H", len(own) + entries) + table + bytes(4)


def send(instance: Instance, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", instance.port), timeout=10) as connection:
        connection.sendall(data)
        connection.recv(2**16)


def form(instance: Instance, disposition: str) -> bytes:
    body = f"--b\r\nContent-Disposition: {disposition}\r\n\r\nx\r\n--b--\r\n".encode()
    head = (
        f"POST /images/upload HTTP/1.1\r\nHost: x\r\nX-API-Key: {instance.key}\r\nConnection: close\r\n"
        f"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def test_hostile_input_adds_few_lines_and_all_of_them_are_json(instance: Instance, tmp_path: Path) -> None:
    mark = f"text-of-a-client-{uuid.uuid4().hex}"
    logs = sorted((instance.data_dir / "logs").glob("*.log"))
    before = sum(log.stat().st_size for log in logs)
    for disposition in (
        f'form-data; name="file"; x*={mark}',
        f'form-data; name="file"; filename*="{mark}',
        f'{mark}; name="file"; filename="a"',
        f'form-data; name="{mark}"; filename=',
    ):
        send(instance, form(instance, disposition))
    send(instance, b"GET /" + mark.encode() + b"\x01 HTTP/9.9\r\nbad header\r\n\r\n")
    damaged = (tiff_of_warnings(2_000), encoded("tiff", picture(64, 64))[:-200], encoded("jpeg", picture(64, 64))[:-60])
    for number, data in enumerate(damaged):
        path = tmp_path / f"{number}.bin"
        path.write_bytes(data)
        instance.upload(path, check=False)
    text = b"".join(log.read_bytes() for log in logs).decode()
    for line in text.splitlines():
        json.loads(line)
    assert mark not in text
    assert sum(log.stat().st_size for log in logs) - before < 64 * 1024
