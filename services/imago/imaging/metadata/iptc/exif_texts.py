"""The fields of EXIF's main directory that describe the picture, Windows' own ones included."""

import re
from typing import Any

from imago.core.images.results import Iptc
from imago.imaging.containers.ifd import Tags
from imago.imaging.metadata.exif.values import decoded, raw_bytes
from imago.imaging.metadata.iptc import fields

_DESCRIPTION, _ARTIST, _COPYRIGHT = 0x010E, 0x013B, 0x8298
_RATING, _RATING_PERCENT = 0x4746, 0x4749
_XP_TITLE, _XP_COMMENT, _XP_AUTHOR, _XP_KEYWORDS, _XP_SUBJECT = range(0x9C9B, 0x9CA0)

# What cameras write where a photographer's description belongs.
_PLACEHOLDER = re.compile(
    r"(\w+ )?DIGITAL ?(STILL ?)?CAMERA\W*|\w+ DSC|DCIM[\\/].*|\w{4,8}\.JPE?G"
    r"|MY BEAUTIFUL PICTURE|<untitled>|default|\W*",
    re.IGNORECASE,
)


def read_texts(main: Tags) -> Iptc:
    """Return the fields of a main directory; those that are missing or can't be read are None."""
    description = fields.paragraph(_text(main.get(_DESCRIPTION)))
    if description and _PLACEHOLDER.fullmatch(description):
        description = None
    keywords = _wide_text(main.get(_XP_KEYWORDS)).split(";")
    return Iptc(
        title=fields.line(_wide_text(main.get(_XP_TITLE))),
        caption=description or fields.paragraph(_wide_text(main.get(_XP_COMMENT)) or _wide_text(main.get(_XP_SUBJECT))),
        keywords=fields.keywords(keywords),
        creator=fields.names(_text(main.get(_ARTIST)).split(";"))
        or fields.names(_wide_text(main.get(_XP_AUTHOR)).split(";")),
        copyright=_copyright(main.get(_COPYRIGHT)),
        rating=_rating(main),
    )


def _text(value: Any) -> str:
    return decoded((raw_bytes(value) or b"").split(b"\0", 1)[0])


def _wide_text(value: Any) -> str:
    """Decode one of Windows' texts, which are bytes or numbers of UTF-16."""
    return (raw_bytes(value) or b"").decode("utf-16-le", "replace").split("\0", 1)[0]


def _copyright(value: Any) -> str | None:
    """Return the photographer's and the editor's copyright, which EXIF separates by a zero."""
    parts = (raw_bytes(value) or b"").split(b"\0")[:2]
    return fields.paragraph("\n".join(text for text in (decoded(part).strip() for part in parts) if text))


def _rating(main: Tags) -> int | None:
    stars = main.get(_RATING)
    if isinstance(stars, int) and 0 <= stars <= 5:
        return stars
    percent = main.get(_RATING_PERCENT)
    return fields.stars(percent) if isinstance(percent, int) else None
