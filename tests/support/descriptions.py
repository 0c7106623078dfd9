"""XMP packets and IPTC-IIM records for tests, and files of each format that contain them."""

import hashlib
import io
import struct
from collections.abc import Sequence
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import pillow_heif
from PIL import Image, PngImagePlugin, TiffImagePlugin

NAMESPACES = {
    "dc": "http://purl.org/dc/elements/1.1/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
    "Iptc4xmpCore": "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "exif": "http://ns.adobe.com/exif/1.0/",
    "exifEX": "http://cipa.jp/exif/1.0/",
    "aux": "http://ns.adobe.com/exif/1.0/aux/",
    "MicrosoftPhoto": "http://ns.microsoft.com/photo/1.0",
}

FORMATS = ("jpeg", "png", "webp", "tiff", "heic", "avif")


def xmp(body: str, attributes: str = "") -> bytes:
    """Return a packet with the given property elements and attributes."""
    spaces = " ".join(f"xmlns:{prefix}={quoteattr(uri)}" for prefix, uri in NAMESPACES.items())
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="" {spaces} {attributes}>{body}</rdf:Description>'
        '</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode()


def alternatives(name: str, **texts: str) -> str:
    """Return a property with a text for each language; `default` is x-default."""
    items = "".join(
        f'<rdf:li xml:lang="{"x-default" if language == "default" else language}">{escape(text)}</rdf:li>'
        for language, text in texts.items()
    )
    return f"<{name}><rdf:Alt>{items}</rdf:Alt></{name}>"


def items(name: str, *texts: str, kind: str = "Bag") -> str:
    """Return a property with an array of texts."""
    inner = "".join(f"<rdf:li>{escape(text)}</rdf:li>" for text in texts)
    return f"<{name}><rdf:{kind}>{inner}</rdf:{kind}></{name}>"


def iim(*datasets: tuple[int, bytes | str], utf_8: bool = True) -> bytes:
    """Return a record with the given datasets of record 2."""
    marked = [(1, 90, b"\x1b%G")] if utf_8 else []
    every = [*marked, *((2, number, text.encode() if isinstance(text, str) else text) for number, text in datasets)]
    return b"".join(struct.pack(">BBBH", 0x1C, record, number, len(text)) + text for record, number, text in every)


def photoshop(record: bytes, *, digest: bytes | None = None) -> bytes:
    """Return Photoshop's resources with a record, and its digest."""
    resources = _resource(0x0404, record)
    return resources if digest is None else _resource(0x0425, digest) + resources


def digest_of(record: bytes) -> bytes:
    """Return the digest that Photoshop stores of a record."""
    return hashlib.md5(record, usedforsecurity=False).digest()


def _resource(number: int, data: bytes) -> bytes:
    return b"8BIM" + struct.pack(">HHI", number, 0, len(data)) + data + b"\0" * (len(data) & 1)


def described(kind: str, packet: bytes = b"", record: bytes = b"", *, digest: bytes | None = None) -> bytes:
    """Return a file of a format with a packet, and with a record where the format has a place for it."""
    image, output = Image.new("RGB", (64, 48), "white"), io.BytesIO()
    options: dict[str, Any] = {"xmp": packet} if packet and kind in ("jpeg", "webp", "avif", "heic") else {}
    if kind == "png":
        options["pnginfo"] = _png_texts(packet, record)
    if kind == "tiff":
        options["tiffinfo"] = _tiff_tags(packet, record)
    if kind == "heic":
        pillow_heif.from_pillow(image).save(output, quality=50, **options)
        return output.getvalue()
    image.save(output, kind, **options)
    data = output.getvalue()
    if kind == "jpeg" and record:
        body = b"Photoshop 3.0\0" + photoshop(record, digest=digest)
        data = data[:2] + b"\xff\xed" + struct.pack(">H", len(body) + 2) + body + data[2:]
    return data


def _png_texts(packet: bytes, record: bytes) -> PngImagePlugin.PngInfo:
    texts = PngImagePlugin.PngInfo()
    if packet:
        texts.add_itxt("XML:com.adobe.xmp", packet.decode())
    if record:
        digits = photoshop(record).hex()
        # As ImageMagick and exiftool write it.
        texts.add_text("Raw profile type iptc", f"\nIPTC profile\n{len(digits) // 2:8}\n{digits}\n", zip=True)
    return texts


def _tiff_tags(packet: bytes, record: bytes) -> TiffImagePlugin.ImageFileDirectory_v2:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for number, data in ((700, packet), (33723, record)):
        if data:
            tags[number] = data
            tags.tagtype[number] = 7
    return tags


def extended(packet: bytes, more: bytes, *, size: int = 60_000) -> bytes:
    """Return a JPEG whose second packet is divided into several segments, and named by the first one."""
    name = hashlib.md5(more, usedforsecurity=False).hexdigest().upper().encode()
    note = b' xmpNote:HasExtendedXMP="' + name + b'" xmlns:xmpNote="http://ns.adobe.com/xmp/note/"'
    first = packet.replace(b' rdf:about=""', b' rdf:about=""' + note)
    segments = [b"http://ns.adobe.com/xap/1.0/\0" + first]
    for start in range(0, len(more), size):
        head = b"http://ns.adobe.com/xmp/extension/\0" + name + struct.pack(">II", len(more), start)
        segments.append(head + more[start : start + size])
    return _with_segments(described("jpeg"), segments)


def _with_segments(data: bytes, bodies: Sequence[bytes]) -> bytes:
    segments = b"".join(b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body for body in bodies)
    return data[:2] + segments + data[2:]
