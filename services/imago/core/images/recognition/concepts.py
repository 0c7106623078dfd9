"""The concepts that the offline recognition scores, with their names in English and French.

`concept_names.txt` has one line each: id, English name, French name, the grammar of both, and the plurals of what can
be counted. Ids are stable, because they are stored with images:

- 0 to 999: the classes of ImageNet (ILSVRC 2012), in the order of all published weights
- 1000 to 1079: the kinds of objects of COCO, in the order of its 80 labels
- from 1100: groups of classes (`imago.ai.offline.vision.imagenet_groups`)
"""

import importlib.resources
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

CLASSES = range(1000)
KINDS = range(1000, 1080)
FIRST_GROUP = 1100

PERSON = 1000


@dataclass(frozen=True)
class Concept:
    """Something that a picture can show.

    `english_number` is `c` for what is counted, `u` for what isn't ("wool"), `p` for what is only a plural ("jeans").
    `french_form` is `m` or `f`, followed by `u` or `p` likewise. Only kinds of objects have plurals.
    """

    id: int
    english: str
    french: str
    english_number: str
    french_form: str
    english_plural: str | None = None
    french_plural: str | None = None

    def name(self, language: str) -> str:
        """Return the name in French if `language` is `fr`, else in English."""
        return self.french if language == "fr" else self.english


@lru_cache(maxsize=1)
def vocabulary() -> Mapping[int, Concept]:
    """Return all concepts by their ids."""
    table = importlib.resources.files("imago.core.images.recognition").joinpath("concept_names.txt").read_text("utf-8")
    concepts = (Concept(int(number), *fields) for number, *fields in (line.split("\t") for line in table.splitlines()))
    return {concept.id: concept for concept in concepts}
