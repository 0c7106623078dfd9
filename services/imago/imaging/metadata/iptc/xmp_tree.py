"""Read an XMP packet (ISO 16684-1) into its properties.

A packet is untrusted XML. A document type stops parsing, and so do entities; size, depth and the number of elements
and attributes are limited. What was read before an error or a limit is kept, so that a damaged packet costs
only its damaged part.
"""

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from xml.parsers import expat

MAX_PACKET_BYTES = 2**20
MAX_ELEMENTS = 20_000
MAX_DEPTH = 32

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_XML = "http://www.w3.org/XML/1998/namespace"
_ARRAYS = frozenset({f"{_RDF}Alt", f"{_RDF}Bag", f"{_RDF}Seq"})

_DECLARATION = re.compile(r"<\?xml\s[^>]{0,300}\?>")
_ESCAPED_LATIN = {0xDC00 + byte: byte for byte in range(0x80, 0x100)}
# XML 1.0 allows no control characters or surrogates, not even as references; some writers use them.
_CONTROLS = re.compile("[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\ufffe\\uffff]")
_CONTROL_REFERENCE = re.compile(
    r"&#(?:0{0,8}(?:[0-8]|1[124-9]|2[0-9]|3[01])|x0{0,8}(?:[0-8BCEF]|1[0-9A-F]|D[89A-F][0-9A-F]{2}));", re.IGNORECASE
)
_BYTE_ORDER_MARKS = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe\0\0", "utf-32-le"),
    (b"\0\0\xfe\xff", "utf-32-be"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)
# The first bytes of a packet without a byte order mark: "<" and another ASCII character.
_STARTS = (
    (re.compile(rb"<\0\0\0[^\0]\0\0\0"), "utf-32-le"),
    (re.compile(rb"\0\0\0<\0\0\0[^\0]"), "utf-32-be"),
    (re.compile(rb"<\0[^\0]\0"), "utf-16-le"),
    (re.compile(rb"\0<\0[^\0]"), "utf-16-be"),
)


@dataclass(frozen=True)
class XmpValue:
    """The value of a property: a text, an array of values, or a structure of named values."""

    text: str = ""
    language: str = ""
    """The `xml:lang` of an alternative."""
    items: tuple["XmpValue", ...] = ()
    fields: Mapping[str, "XmpValue"] = field(default_factory=dict)


Properties = Mapping[str, XmpValue]
"""Values by their names, each the namespace's URI followed by the local name."""


def read_properties(packet: bytes, *, namespaces: tuple[str, ...]) -> Properties:
    """Return the properties of a packet that are in some namespaces; empty if it is not XMP."""
    root = _parse(_decoded(packet[:MAX_PACKET_BYTES]), namespaces)
    properties: dict[str, XmpValue] = {}
    for rdf in _find(root, f"{_RDF}RDF"):
        for node in rdf.children:
            for name, value in _fields(node).items():
                properties.setdefault(name, value)
    return properties


@dataclass(slots=True)
class _Element:
    name: str
    attributes: Mapping[str, str]
    children: list["_Element"] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)


class _Limit(Exception):
    """The packet has more than the reader takes."""


class _Builder:
    """Builds elements out of the parser's events, without those of other namespaces: edits can have thousands."""

    def __init__(self, namespaces: tuple[str, ...]) -> None:
        self.root = _Element("", {})
        self._namespaces = (_RDF, *namespaces)
        self._attribute_namespaces = (*self._namespaces, _XML)
        self._open = [self.root]
        self._in_rdf = False
        self._skipped = 0
        self._count = 0

    def start(self, name: str, attributes: Sequence[str]) -> None:
        """Open an element; `attributes` are names and values in turn."""
        if self._skipped or (self._in_rdf and not name.startswith(self._namespaces)):
            self._skipped += 1
            return
        wanted = {
            attribute: value
            for attribute, value in zip(attributes[::2], attributes[1::2], strict=True)
            if attribute.startswith(self._attribute_namespaces)
        }
        self._count += 1 + len(wanted)
        if self._count > MAX_ELEMENTS or len(self._open) > MAX_DEPTH:
            raise _Limit
        self._in_rdf = self._in_rdf or name == f"{_RDF}RDF"
        element = _Element(name, wanted)
        self._open[-1].children.append(element)
        self._open.append(element)

    def end(self, _name: str) -> None:
        """Close the innermost element."""
        if self._skipped:
            self._skipped -= 1
        else:
            self._open.pop()

    def text(self, data: str) -> None:
        """Add text to the innermost element."""
        if not self._skipped:
            self._open[-1].parts.append(data)

    def forbidden(self, *_: object) -> None:
        """Refuse a document type or an entity."""
        raise _Limit


def _parse(text: str, namespaces: tuple[str, ...]) -> _Element:
    # Without a separator, a name is its namespace's URI and its local name, as in RDF.
    parser = expat.ParserCreate("utf-8", "")
    builder = _Builder(namespaces)
    parser.buffer_text = True
    parser.ordered_attributes = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.text
    parser.StartDoctypeDeclHandler = builder.forbidden
    parser.EntityDeclHandler = builder.forbidden
    with contextlib.suppress(expat.ExpatError, _Limit):
        parser.Parse(text.encode(), True)
    return builder.root


def _decoded(packet: bytes) -> str:
    """Return a packet's text, without what the XML parser would refuse and without its declaration of an encoding."""
    encoding, start = _encoding(packet)
    try:
        text = packet[start:].decode(encoding)
    except UnicodeDecodeError:
        # Bytes that are not UTF-8 are mostly Latin-1, of a writer that put EXIF's text in as it was.
        errors = "surrogateescape" if encoding == "utf-8" else "replace"
        text = packet[start:].decode(encoding, errors).translate(_ESCAPED_LATIN)
    text = _CONTROLS.sub("", text)
    text = text[text.find("<") :]
    declaration = _DECLARATION.match(text)
    return _CONTROL_REFERENCE.sub("", text[declaration.end() if declaration else 0 :])


def _encoding(packet: bytes) -> tuple[str, int]:
    """Return the encoding of a packet and the length of its byte order mark."""
    for mark, encoding in _BYTE_ORDER_MARKS:
        if packet.startswith(mark):
            return encoding, len(mark)
    for pattern, encoding in _STARTS:
        if pattern.match(packet):
            return encoding, 0
    return "utf-8", 0


def _find(element: _Element, name: str, depth: int = 0) -> Iterator[_Element]:
    for child in element.children:
        if child.name == name:
            yield child
        elif depth < 3:
            yield from _find(child, name, depth + 1)


def _fields(element: _Element) -> dict[str, XmpValue]:
    """Return the properties of a node, written as attributes or as elements."""
    fields = {name: XmpValue(text) for name, text in element.attributes.items() if not name.startswith((_RDF, _XML))}
    for child in element.children:
        if not fields.get(child.name):
            fields[child.name] = _value(child)
    return fields


def _value(element: _Element) -> XmpValue:
    language = element.attributes.get(f"{_XML}lang", "").lower()
    nested = element.children
    if nested and nested[0].name in _ARRAYS:
        return XmpValue(items=tuple(_value(item) for item in nested[0].children if item.name == f"{_RDF}li"))
    if nested and nested[0].name == f"{_RDF}Description":
        return _structure(_fields(nested[0]), language)
    if nested:
        return _structure(_fields(element), language)
    text = "".join(element.parts) or element.attributes.get(f"{_RDF}resource", "")
    return XmpValue(text, language, fields=_fields(element))


def _structure(fields: dict[str, XmpValue], language: str) -> XmpValue:
    # A value with qualifiers is a structure whose member rdf:value is the value itself.
    value = fields.get(f"{_RDF}value")
    return value or XmpValue(language=language, fields=fields)
