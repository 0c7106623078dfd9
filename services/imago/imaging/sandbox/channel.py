"""The socket between a pool and a child: requests with open files one way, responses the other.

Both are JSON after a length of four bytes, never pickles: a child that a crafted image took over must not be able to
run code in its parent. Files are passed as descriptors, so that the child needs no right to open any.
"""

import asyncio
import json
import os
import socket
import struct
from collections.abc import Mapping
from typing import Any

# The largest response is a page of text.
MAX_RESPONSE = 16 * 2**20
_MAX_REQUEST = 2**16
_MAX_FILES = 4


class ChannelClosed(Exception):
    """The other side has ended, or sent something else than a message."""


async def send_request(channel: socket.socket, request: Mapping[str, Any], descriptors: list[int]) -> None:
    """Send a request with open files from the pool; raise ChannelClosed."""
    body = json.dumps(request).encode()
    if len(body) > _MAX_REQUEST:
        raise ValueError("the request is too long")
    try:
        # The child has read all earlier requests, so a buffer has space for four bytes.
        socket.send_fds(channel, [struct.pack(">I", len(body))], descriptors)
        await asyncio.get_running_loop().sock_sendall(channel, body)
    except OSError as error:
        raise ChannelClosed from error


async def receive_response(channel: socket.socket) -> Any:
    """Receive the next response of a child; raise ChannelClosed."""
    length = struct.unpack(">I", await _receive(channel, 4))[0]
    if length > MAX_RESPONSE:
        raise ChannelClosed
    try:
        return json.loads(await _receive(channel, length))
    except ValueError as error:
        raise ChannelClosed from error


async def _receive(channel: socket.socket, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        try:
            # Without ancillary data: the kernel closes descriptors that the child may have sent.
            piece = await asyncio.get_running_loop().sock_recv(channel, min(length - len(data), 2**20))
        except OSError as error:
            raise ChannelClosed from error
        if not piece:
            raise ChannelClosed
        data += piece
    return bytes(data)


def receive_request(channel: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Receive the next request and its open files in a child; return None at the end."""
    head, descriptors, _, _ = socket.recv_fds(channel, 4, _MAX_FILES)
    if len(head) < 4:
        return None
    body = bytearray()
    while len(body) < struct.unpack(">I", head)[0]:
        body += (piece := channel.recv(_MAX_REQUEST))
        if not piece:
            return None
    return json.loads(body), descriptors


def send_response(channel: socket.socket, response: Mapping[str, Any]) -> None:
    """Send a response from a child."""
    body = json.dumps(response).encode()
    data = memoryview(struct.pack(">I", len(body)) + body)
    while data:
        # Not `send`, which the child's filter refuses.
        data = data[os.write(channel.fileno(), data) :]
