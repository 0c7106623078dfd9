"""Photoshop's image resources, in which JPEG, TIFF and PNG carry IPTC (IPTC-IIM 4.2)."""

import struct

IPTC = 0x0404
IPTC_DIGEST = 0x0425
MAX_RESOURCES = 1024

_SIGNATURES = (b"8BIM", b"MeSa", b"PHUT", b"AgHg", b"DCSR")
# A record of IPTC-IIM begins with this byte.
_RECORD = 0x1C


def find_iptc(resources: bytes) -> bytes | None:
    """Return the IPTC records of a block of image resources, or None; bytes that are records are returned as such."""
    return resources if resources[:1] == bytes([_RECORD]) else find_resource(resources, IPTC)


def find_resource(resources: bytes, wanted: int) -> bytes | None:
    """Return the data of a resource, or None if the block does not contain it."""
    at = 0
    for _ in range(MAX_RESOURCES):
        if resources[at : at + 4] not in _SIGNATURES or at + 12 > len(resources):
            return None
        kind, name_length = struct.unpack_from(">HB", resources, at + 4)
        # Names and data are padded to an even length.
        at += 6 + (name_length + 2 & ~1)
        if at + 4 > len(resources):
            return None
        length = struct.unpack_from(">I", resources, at)[0]
        if kind == wanted:
            return resources[at + 4 : at + 4 + length] or None
        at += 4 + (length + 1 & ~1)
    return None
