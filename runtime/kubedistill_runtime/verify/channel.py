"""Frames between the pool and its children: a length of four bytes, then JSON."""

import json
import struct
from typing import Any, BinaryIO

HEADER = struct.Struct("!I")


def encode(message: dict[str, Any]) -> bytes:
    """One message as a frame. Raises ValueError beyond 4 GiB."""
    body = json.dumps(message).encode()
    if len(body) >= 1 << 32:
        raise ValueError("a message of 4 GiB or more: leave out tests")
    return HEADER.pack(len(body)) + body


def decode(body: bytes) -> dict[str, Any]:
    """The message in a frame's body."""
    message: dict[str, Any] = json.loads(body)
    return message


def read_message(stream: BinaryIO) -> dict[str, Any] | None:
    """The next message; None at the end."""
    header = stream.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    (length,) = HEADER.unpack(header)
    return decode(stream.read(length))
