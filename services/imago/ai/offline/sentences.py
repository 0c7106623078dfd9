"""Split a text into lines and sentences, in linear time."""

import re
from dataclasses import dataclass

_LIST_MARKER = re.compile(
    r"[ \t]{0,40}(?:[-*•–—·]|\[[ xX]?\]|\(?[0-9]{1,2}[.)]|[a-z]\))[ \t]{1,10}(?:\[[ xX]?\][ \t]+)?"
)

_LINE_ENDS = frozenset(".!?…:;|。！？")

# The end of a sentence: its mark, closing quotes, white space, and a possible beginning of the next one. CJK has no
# spaces.
_END = re.compile(r"""[.!?…]["'”’»)\]]{0,3}[ \t\u00a0\u202f]+(?=["'“‘«(\[]{0,3}[^\W_a-zß-öø-ÿ])|[。！？]""")

# A full stop after one of these, or after a single letter, does not end a sentence.
_ABBREVIATIONS = frozenset(
    (
        *("al", "approx", "art", "av", "bd", "ca", "cf", "ch", "dept", "dr", "ed", "eg", "env", "etc", "ex", "fig"),
        *("ie", "inc", "jr", "ltd", "max", "min", "mlle", "mm", "mme", "mr", "mrs", "ms", "nb", "no", "nr", "op"),
        *("pp", "prof", "resp", "sr", "st", "vol", "vs"),
    )
)
_LAST_WORD = re.compile(r"([^\W\d_]{1,12})\.?$")


@dataclass(frozen=True)
class Line:
    """A line without its list marker, and whether it had one."""

    text: str
    listed: bool


def lines_of(text: str) -> list[Line]:
    """Return the lines that are not empty. A line that continues a sentence is joined to the line before."""
    found: list[tuple[list[str], bool]] = []
    adjacent = False
    for raw in text.splitlines():
        marker = _LIST_MARKER.match(raw)
        line = " ".join(raw[marker.end() if marker else 0 :].split())
        if line and adjacent and marker is None and line[0].islower() and found[-1][0][-1][-1] not in _LINE_ENDS:
            found[-1][0].append(line)
        elif line:
            found.append(([line], marker is not None))
        adjacent = bool(line)
    return [Line(" ".join(parts), listed=listed) for parts, listed in found]


def sentences_of(line: str) -> list[str]:
    """Return the sentences of a line."""
    found, start = [], 0
    for end in _END.finditer(line):
        mark = line[end.start()]
        if mark == "." and _is_abbreviation(line[max(start, end.start() - 14) : end.start()]):
            continue
        found.append(line[start : end.end()].strip())
        start = end.end()
    found.append(line[start:].strip())
    return [sentence for sentence in found if sentence]


def shorten(text: str, length: int) -> str:
    """Return the text, cut at a word and with an ellipsis if it is longer than `length`."""
    if len(text) <= length:
        return text
    cut = text[: length - 1]
    head, space, _ = cut.rpartition(" ")
    # A text without spaces is cut within a word.
    return (head if space and len(head) > length // 2 else cut).rstrip(" ,;:-–") + "…"


def _is_abbreviation(before: str) -> bool:
    word = _LAST_WORD.search(before)
    return word is not None and (len(word[1]) == 1 or word[1].casefold() in _ABBREVIATIONS)
