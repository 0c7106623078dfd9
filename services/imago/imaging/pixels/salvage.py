"""Files that end before their pixels do: two continuations each, which show whether pixels are missing.

A decoder that gets the end of the data as soon as possible, and one that gets other data before it, return the same
picture only if the file's own bytes had all pixels, as those of a JPEG that lacks only its end marker do.
"""

from imago.core.images.model import ImageFormat
from imago.imaging.containers.bmff import InvalidBoxes, box_head
from imago.imaging.formats.header import sniff

_END_OF_JPEG = b"\xff\xd9"
_OTHER_DATA = bytes(range(1, 255))

# The longest end that is replaced; a header may declare any length.
_MAX_MISSING = 64 * 2**20


def continued(data: bytes) -> list[bytes]:
    """Return the files to decode in place of one that ends early.

    Two for formats whose decoders then need nothing else; one, the file itself, for those that Pillow decodes as far as
    it gets; none if the end is not what is wrong.
    """
    match sniff(data[:256]):
        case ImageFormat.JPEG:
            # The half of a marker.
            data = data.rstrip(b"\xff")
            return [data + _END_OF_JPEG, data + _OTHER_DATA + _END_OF_JPEG]
        case ImageFormat.WEBP:
            return _filled(data, int.from_bytes(data[4:8], "little") + 8)
        case ImageFormat.HEIC | ImageFormat.AVIF:
            return _filled(data, _declared_length(data))
        case _:
            return [data]


def _filled(data: bytes, length: int) -> list[bytes]:
    missing = length - len(data)
    if not 0 < missing <= _MAX_MISSING:
        return []
    return [data + bytes(missing), data + (_OTHER_DATA * (missing // len(_OTHER_DATA) + 1))[:missing]]


def _declared_length(data: bytes) -> int:
    """Return where the last box at the top level ends."""
    at = 0
    while at + 16 <= len(data):
        try:
            end = box_head(data, at).end
        except InvalidBoxes:
            return len(data)
        if not end:
            return len(data)
        at = end
    return at
