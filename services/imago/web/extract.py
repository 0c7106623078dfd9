"""Extract title, text and language of a fetched page. It is a task of a child process.

The time to parse hostile HTML is not bounded (2 MiB of unclosed paragraphs take trafilatura ten seconds), and a thread
that parses holds the interpreter's lock. The CPU and memory limits of the child process stop it.
"""

import re
import unicodedata
from pathlib import Path
from typing import Any, BinaryIO

from imago.core.text.language_names import find_language
from imago.core.text.languages import detect_language
from imago.web.charset import decode

# Some 15,000 tokens.
MAX_TEXT_LENGTH = 60_000
MAX_TITLE_LENGTH = 300

# Elements that a browser doesn't show. Text hidden in them may be a prompt injection.
_HIDDEN = "//*[@hidden or @aria-hidden='true' or self::script or self::style or self::template or self::noscript]"
_HIDDEN_STYLE = re.compile(
    r"(?<![\w-])(?:display\s*:\s*none|visibility\s*:\s*hidden|font-size\s*:\s*0+(?:\.0*)?(?![\d.]))", re.IGNORECASE
)


def extract_page(*, source: str | BinaryIO, content_type: str, charset: str | None) -> dict[str, Any]:
    """Return `title`, `text` and `language` (ISO 639-1, or None) of the page in the file `source`.

    `text` is empty if the page has none.
    """
    raw = decode(Path(source).read_bytes() if isinstance(source, str) else source.read(), charset=charset)
    if content_type == "text/plain":
        title, text, declared = None, raw, None
    else:
        title, text, declared = _extract_html(raw)
    text = _clean(text)[:MAX_TEXT_LENGTH].rstrip()
    title = " ".join(_clean(title or "").split())[:MAX_TITLE_LENGTH].rstrip() or None
    # The words take precedence, because templates declare `lang="en"` on pages of any language.
    return {"title": title, "text": text, "language": detect_language(text) or declared}


def _extract_html(raw: str) -> tuple[str | None, str, str | None]:
    from lxml.etree import ParserError
    from lxml.html import HTMLParser, document_fromstring
    from trafilatura import bare_extraction, html2txt
    from trafilatura.settings import Document

    try:
        # Parsers differ in how they handle NUL, so it is removed first.
        tree = document_fromstring(_clean(raw).encode(), parser=HTMLParser(encoding="utf-8", remove_comments=True))
    except ParserError:
        return None, "", None
    declared = find_language(str(tree.get("lang") or tree.get("xml:lang") or ""))
    hidden = tree.xpath(_HIDDEN)
    hidden += [element for element in tree.xpath("//*[@style]") if _HIDDEN_STYLE.search(element.get("style"))]
    for element in hidden:
        if element.getparent() is not None:
            element.drop_tree()
    document = bare_extraction(tree, include_comments=False, with_metadata=True)
    fields = document.as_dict() if isinstance(document, Document) else {}
    # On pages of a few words it finds no main text, so all words of the page are the text.
    text = fields.get("text") or html2txt(tree)
    title = fields.get("title") if fields else tree.findtext(".//title")
    return title, text, declared.code if declared else None


def _clean(text: str) -> str:
    """Return the text in NFC without control and format characters, except line ends and tabs."""
    kept = "".join(char for char in text if char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cf", "Cs"))
    return unicodedata.normalize("NFC", kept)
