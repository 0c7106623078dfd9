"""What was read in a document, as a child process sends it. Workers without the OCR engines import this module, too."""

from dataclasses import dataclass, replace
from typing import Any

from imago.core.images.results import OcrReading, OcrResult


@dataclass(frozen=True)
class DocumentReading:
    """The chosen reading and all others, with the words of the chosen one.

    `has_lines` says whether the detector found lines of text, which an engine may have left unread.
    """

    result: OcrResult
    has_lines: bool

    @property
    def chosen(self) -> OcrReading:
        """The chosen reading."""
        return self.result.chosen

    def to_json(self) -> dict[str, Any]:
        """Return the JSON that a child process sends."""
        return {
            "result": self.result.to_json(),
            "words": self.result.words,
            "has_lines": self.has_lines,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "DocumentReading":
        """Return the reading from its JSON."""
        return cls(replace(OcrResult.from_json(data["result"]), words=data["words"]), data["has_lines"])
