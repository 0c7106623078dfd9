"""The socket between a pool and a child: requests with open files one way, responses the other.

Both are JSON after a length of four bytes, never pickles: a child that a crafted image took over must not be able to
run code in its parent. Files are passed as descriptors, so that the child needs no right to open any.

This module is the child's side, without asyncio, whose import takes longer than that of all else. The pool's side is in
`process`.
"""

import json
import os
import socket
import struct
from collections.abc import Mapping
from typing import Any

# The length of a message's body.
HEAD = struct.Struct(">I")

MAX_REQUEST = 2**16
_MAX_FILES = 4


def receive_request(channel: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Receive the next request and its open files in a child; return None at the end."""
    head, descriptors, _, _ = socket.recv_fds(channel, HEAD.size, _MAX_FILES)
    if len(head) < HEAD.size:
        return None
    (length,) = HEAD.unpack(head)
    body = bytearray()
    while len(body) < length:
        body += (piece := channel.recv(MAX_REQUEST))
        if not piece:
            return None
    return json.loads(body), descriptors


def send_response(channel: socket.socket, response: Mapping[str, Any]) -> None:
    """Send a response from a child."""
    body = json.dumps(response).encode()
    data = memoryview(HEAD.pack(len(body)) + body)
    while data:
        # Not `send`, which the child's filter refuses.
        data = data[os.write(channel.fileno(), data) :]
