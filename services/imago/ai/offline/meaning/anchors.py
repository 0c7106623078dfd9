"""The anchors of search by meaning: texts whose concepts are known, and texts that are about no concept.

A query is compared with all of them. Anchors are the names of all concepts in English and French and what people call
concepts and scenes (`phrases.txt`); the background is what no picture shows (`background.txt`) and letters without
meaning. Texts are in lower case, as queries are compared.
"""

import hashlib
import importlib.resources
import random
from dataclasses import dataclass
from functools import lru_cache

from imago.core.images.recognition.concepts import vocabulary

# Enough that keys pressed at random are nearer to one of them than to any name.
_PSEUDO_WORDS = 160
_CONSONANTS, _VOWELS = "bcdfghjklmnpqrstvwxz", "aeiouy"


@dataclass(frozen=True)
class Anchors:
    """The texts of anchors, the ids of the concepts of each, and the texts of the background."""

    texts: tuple[str, ...]
    concepts: tuple[tuple[int, ...], ...]
    background: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """Return a digest of the texts; stored vectors are those of these texts only."""
        joined = "\n".join((*self.texts, "", *self.background))
        return hashlib.sha256(joined.encode()).hexdigest()


@lru_cache(maxsize=1)
def load_anchors() -> Anchors:
    """Return all anchors; raise ValueError if a phrase names an unknown concept."""
    found: dict[str, dict[int, None]] = {}
    by_name: dict[str, list[int]] = {}
    for concept in vocabulary().values():
        by_name.setdefault(concept.english.lower(), []).append(concept.id)
        for name in (concept.english, concept.french):
            found.setdefault(name.lower(), {})[concept.id] = None
    for phrases, names in _phrases():
        ids = [concept for name in names for concept in _ids(by_name, name)]
        for phrase in phrases:
            found.setdefault(phrase.lower(), {}).update(dict.fromkeys(ids))
    background = (*(line.lower() for line in _lines("background.txt")), *_pseudo_words())
    return Anchors(tuple(found), tuple(tuple(ids) for ids in found.values()), background)


def _phrases() -> list[tuple[list[str], list[str]]]:
    """Return the phrases and the names of concepts of each line."""
    lines = (line.split(" | ") for line in _lines("phrases.txt"))
    return [([*english.split("; "), *french.split("; ")], names.split("; ")) for english, french, names in lines]


def _ids(by_name: dict[str, list[int]], name: str) -> list[int]:
    try:
        return by_name[name.lower()]
    except KeyError:
        raise ValueError(f"phrases.txt names the unknown concept {name!r}") from None


def _lines(name: str) -> list[str]:
    text = importlib.resources.files("imago.ai.offline.meaning").joinpath(name).read_text("utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def _pseudo_words() -> list[str]:
    """Return letters at random, and syllables at random, in one or two words."""
    chance = random.Random(7)  # noqa: S311 - the same words each time, no secrets
    return [_pseudo_words_of(chance, count=1 + (number % 3 == 0)) for number in range(_PSEUDO_WORDS)]


def _pseudo_words_of(chance: random.Random, *, count: int) -> str:
    spoken = chance.random() < 0.5
    return " ".join(_syllables(chance) if spoken else _letters(chance) for _ in range(count))


def _letters(chance: random.Random) -> str:
    return "".join(chance.choices(_CONSONANTS + _VOWELS, k=chance.randint(4, 10)))


def _syllables(chance: random.Random) -> str:
    parts = (chance.choice(_CONSONANTS) + chance.choice(_VOWELS) for _ in range(chance.randint(2, 5)))
    return "".join(part + (chance.choice(_CONSONANTS) if chance.random() < 0.3 else "") for part in parts)
