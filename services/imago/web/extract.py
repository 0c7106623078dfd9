"""Finds title, text and language of a fetched page; runs in a child process, as a task of its pool.

Parsing hostile HTML has no bound in time (2 MiB of unclosed paragraphs take trafilatura ten seconds), and a thread that
does it keeps the interpreter from everything else. The child's limits of CPU seconds and memory end it.
"""

import re
import unicodedata
from pathlib import Path
from typing import Any

from imago.core.languages import detect_language
from imago.web.charset import decode

# What providers are given at most; some 15,000 tokens.
MAX_TEXT_LENGTH = 60_000
MAX_TITLE_LENGTH = 300

# What a reader of the page doesn't see: text hidden there is written for machines.
_UNSEEN = "//*[@hidden or @aria-hidden='true' or self::script or self::style or self::template or self::noscript]"
_UNSEEN_STYLE = re.compile(
    r"(?<![\w-])(?:display\s*:\s*none|visibility\s*:\s*hidden|font-size\s*:\s*0+(?:\.0*)?(?![\d.]))", re.IGNORECASE
)

_LANGUAGE_TAG = re.compile(r"([A-Za-z]{2})(?:[-_].{0,40})?")


def read_page(*, source: str, content_type: str, charset: str | None) -> dict[str, Any]:
    """Read the page whose bytes are in the file `source`; return `title`, `text` and `language` (ISO 639-1, or None).

    `text` is empty where there is none.
    """
    raw = decode(Path(source).read_bytes(), charset=charset)
    if content_type == "text/plain":
        title, text, declared = None, raw, None
    else:
        title, text, declared = _read_html(raw)
    text = _clean(text)[:MAX_TEXT_LENGTH].rstrip()
    title = " ".join(_clean(title or "").split())[:MAX_TITLE_LENGTH].rstrip() or None
    # Templates say `lang="en"` on pages of every language, so the words count for more.
    return {"title": title, "text": text, "language": detect_language(text) or declared}


def _read_html(raw: str) -> tuple[str | None, str, str | None]:
    from lxml.etree import ParserError
    from lxml.html import HTMLParser, document_fromstring
    from trafilatura import bare_extraction, html2txt
    from trafilatura.settings import Document

    try:
        # Parsers differ in what they do with NUL; without it they don't.
        tree = document_fromstring(_clean(raw).encode(), parser=HTMLParser(encoding="utf-8", remove_comments=True))
    except ParserError:
        return None, "", None
    declared = _LANGUAGE_TAG.fullmatch(str(tree.get("lang") or tree.get("xml:lang") or ""))
    unseen = tree.xpath(_UNSEEN)
    unseen += [element for element in tree.xpath("//*[@style]") if _UNSEEN_STYLE.search(element.get("style"))]
    for element in unseen:
        if element.getparent() is not None:
            element.drop_tree()
    found = bare_extraction(tree, include_comments=False, with_metadata=True)
    fields = found.as_dict() if isinstance(found, Document) else {}
    # Nothing is found on pages of a few words; there, all of them are the text.
    text = fields.get("text") or html2txt(tree)
    title = fields.get("title") if fields else tree.findtext(".//title")
    return title, text, declared[1].lower() if declared else None


def _clean(text: str) -> str:
    """Return the text without control and format characters, except line ends and tabs; composed (NFC)."""
    kept = "".join(char for char in text if char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cf", "Cs"))
    return unicodedata.normalize("NFC", kept)
