"""The report: all scores, as JSON and as tables of text. What the labels do not judge is left out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from imago.evaluation.answers import Answers
from imago.evaluation.details import ImageDetails, frequent_wrong_tags, image_details, worst_readings
from imago.evaluation.labels import Labels
from imago.evaluation.lookalike_scores import FalsePairs, LookalikeScores, score_lookalikes
from imago.evaluation.place_scores import PlaceScores, score_places
from imago.evaluation.search_scores import SearchScores, score_searches
from imago.evaluation.tag_scores import TagScores, score_tags
from imago.evaluation.text_scores import ACCEPTABLE_ERROR, CONFIDENT, Calibration, TextScores, score_texts

_NOTHING = "–"

# Rows of the tables of what to look at.
_WORST = 10
# Hits of a query in the JSON.
_HITS = 5


@dataclass(frozen=True)
class Report:
    """The scores of a folder; None is what its labels do not judge, or what Imago was not asked."""

    images: int
    text: tuple[list[TextScores], Calibration] | None
    tags: list[TagScores] | None
    search: list[SearchScores] | None
    places: PlaceScores | None
    lookalikes: tuple[list[LookalikeScores], FalsePairs] | None
    cpu_ms: Mapping[str, float]
    details: Mapping[str, ImageDetails]
    hits: Mapping[str, Sequence[str]]

    def to_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        text, calibration = self.text or (None, None)
        lookalikes, false_pairs = self.lookalikes or (None, None)
        return {
            "images": self.images,
            "text": _dicts(text),
            "calibration": asdict(calibration) if calibration else None,
            "tags": _dicts(self.tags),
            "search": _dicts(self.search),
            "places": asdict(self.places) if self.places else None,
            "lookalikes": _dicts(lookalikes),
            "false_pairs": asdict(false_pairs) if false_pairs else None,
            "cpu_ms": dict(self.cpu_ms),
            "details": {file: asdict(details) for file, details in self.details.items()},
            "hits": {query: list(files) for query, files in self.hits.items()},
        }

    def to_text(self) -> str:
        """Return tables for people."""
        parts = (
            _text_tables(self.text),
            _tag_table(self.tags),
            _search_table(self.search),
            _place_table(self.places),
            _lookalike_tables(self.lookalikes),
            _cpu_table(self.cpu_ms),
            _worst_tables(self.details),
        )
        return "\n\n".join(part for part in parts if part)


def make_report(labels: Labels, answers: Answers) -> Report:
    """Compare the answers with the labels of the images that have one."""
    images = {file: labels.images[file] for file in answers.images}
    return Report(
        images=len(images),
        text=score_texts(images, answers.images),
        tags=score_tags(images, answers.images, labels.names),
        search=score_searches(labels.queries, answers.searches),
        places=score_places(images, answers.images),
        lookalikes=score_lookalikes(images, answers.similar),
        cpu_ms=answers.cpu_ms,
        details=image_details(labels, answers),
        hits={query: files[:_HITS] for query, files in answers.searches.items()},
    )


def table(title: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table whose first column is aligned to the left, and the others to the right."""
    cells = [list(header), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = (
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in cells
    )
    return "\n".join([title, *(line.rstrip() for line in lines)])


def _cell(value: object) -> str:
    if value is None:
        return _NOTHING
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _dicts(scores: Iterable[Any] | None) -> list[dict[str, Any]] | None:
    return None if scores is None else [asdict(score) for score in scores]


def _values(scores: Iterable[Any]) -> list[list[object]]:
    return [list(asdict(score).values()) for score in scores]


def _text_tables(scores: tuple[list[TextScores], Calibration] | None) -> str | None:
    if scores is None:
        return None
    header = ("kind", "images", "character errors", "word F1", "confidence")
    calibration = scores[1]
    right = _NOTHING if calibration.right is None else f"{calibration.right:.1%}"
    return "\n".join(
        [
            table("TEXT", header, _values(scores[0])),
            f"Readings with a confidence of at least {CONFIDENT}: {calibration.confident}, "
            f"of which {right} have at most {ACCEPTABLE_ERROR:.0%} wrong characters",
        ]
    )


def _tag_table(scores: list[TagScores] | None) -> str | None:
    if scores is None:
        return None
    rows = [
        ("images", "images"),
        ("without a subject tag", "silent"),
        ("subject tags per image", "tags"),
        ("tags that are right (precision)", "precision"),
        ("images with a right tag", "with_right_tag"),
        ("visible objects that are named (recall)", "recall"),
        ("people found", "people_recall"),
        ("people named rightly (precision)", "people_precision"),
        ("images of nothing", "empty_images"),
        ("images of nothing with a subject tag", "empty_with_tags"),
    ]
    header = ("", *(score.language for score in scores))
    return table("TAGS", header, [(name, *(getattr(score, field) for score in scores)) for name, field in rows])


def _search_table(scores: list[SearchScores] | None) -> str | None:
    header = ("kind", "queries", "nothing found", "first hit right", "average precision")
    return None if scores is None else table("SEARCH", header, _values(scores))


def _place_table(scores: PlaceScores | None) -> str | None:
    header = ("images", "named", "place right", "country right")
    return None if scores is None else table("PLACES", header, _values([scores]))


def _lookalike_tables(scores: tuple[list[LookalikeScores], FalsePairs] | None) -> str | None:
    if scores is None:
        return None
    false = scores[1]
    return "\n".join(
        [
            table("LOOK-ALIKES", ("kind", "copies", "original found"), _values(scores[0])),
            f"Unrelated pairs: {false.pairs}, of which {false.false} are called similar",
        ]
    )


def _cpu_table(cpu_ms: Mapping[str, float]) -> str | None:
    if not cpu_ms:
        return None
    return table("CPU", ("step", "ms per image"), [(step, f"{ms:.0f}") for step, ms in cpu_ms.items()])


def _worst_tables(details: Mapping[str, ImageDetails]) -> str | None:
    readings = worst_readings(details, most=_WORST)
    tags = frequent_wrong_tags(details, most=_WORST)
    parts = (
        table("WORST READINGS", ("file", "character errors"), readings) if readings else None,
        table("WRONG TAGS", ("tag", "images"), tags) if tags else None,
    )
    return "\n\n".join(part for part in parts if part) or None
