"""What queries are about, read in the sandboxed child process as the API does."""

import importlib.util
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from imago.ai.offline.meaning.queries import CachedQueries
from imago.ai.offline.meaning.vectors import ensure_vectors
from imago.bootstrap.meaning import query_meaning
from imago.core.images.recognition.concepts import vocabulary
from imago.runtime.startup import StartupError
from imago.settings import Settings

HOSTILE = [
    "\ufdfa" * 500,
    "é😀 " * 160,
    "字" * 500,
    "\x00 chat",
    " ",
    "a" * 500,
    "\u202e" * 300,
    "\u0300" * 400,
    "{}[]()",
]


@pytest.fixture(scope="module")
def vectors() -> Path:
    """The vectors of `make setup`."""
    return ensure_vectors(None)


@pytest.fixture
async def meaning(vectors: Path) -> AsyncIterator[CachedQueries]:
    """The reader of queries of an API process."""
    async with query_meaning(Settings(model_dir=vectors.parent.parent)) as reader:
        assert isinstance(reader, CachedQueries)
        yield reader


async def names(meaning: CachedQueries, query: str) -> list[str]:
    return [vocabulary()[each.concept].english for each in await meaning.concepts(query, client_id=1)]


@pytest.mark.parametrize(
    ("query", "concept"),
    [
        *(("a dog", "dog"), ("les chiens", "dog"), ("automobiles in the road", "car"), ("un frigo", "refrigerator")),
        *(("salle de bains", "toilet"), ("someone on a horse", "horse"), ("quelqu'un à cheval", "horse")),
        *(
            ("persons", "person"),
            ("red double-decker bus", "bus"),
            ("un bus rouge", "bus"),
            ("wedding photo", "bridegroom"),
        ),
    ],
)
async def test_a_query_is_about_concepts_in_both_languages(meaning: CachedQueries, query: str, concept: str) -> None:
    assert concept in (await names(meaning, query))[:4]


@pytest.mark.parametrize(
    "query",
    ["qzxwv plkjh", "asdfghjkl", "brzgl", "0x7f3a9c", "tax declaration 2024", "théorie des nombres", "democracy"],
)
async def test_nonsense_and_what_no_picture_shows_is_about_nothing(meaning: CachedQueries, query: str) -> None:
    assert await names(meaning, query) == []


async def test_hostile_queries_are_read_and_the_process_survives(meaning: CachedQueries) -> None:
    for query in HOSTILE:
        await meaning.concepts(query, client_id=1)
    assert (await names(meaning, "dog"))[0] == "dog"


async def test_weights_are_whole_numbers_up_to_1000(meaning: CachedQueries) -> None:
    concepts = await meaning.concepts("a cat on a sofa", client_id=1)
    assert 1 <= len(concepts) <= 20
    assert max(each.weight for each in concepts) == 1000
    assert min(each.weight for each in concepts) >= 1


async def test_a_query_is_read_once(meaning: CachedQueries, vectors: Path) -> None:
    first = await meaning.concepts("A  Dog", client_id=1)
    again = CachedQueries(_NoTasks(), vectors)
    again._recent = meaning._recent
    assert await again.concepts("a dog", client_id=2) == first


async def test_a_failure_finds_nothing(vectors: Path) -> None:
    assert await CachedQueries(_NoTasks(), vectors).concepts("dog", client_id=1) == ()
    assert await CachedQueries(_NoTasks(), vectors.with_name("missing")).concepts("dog", client_id=1) == ()


async def test_it_can_be_switched_off() -> None:
    async with query_meaning(Settings(search_by_meaning=False)) as reader:
        assert reader is None


async def test_it_is_off_where_the_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    async with query_meaning(Settings()) as reader:
        assert reader is None
    with pytest.raises(StartupError, match="SEARCH_BY_MEANING"):
        async with query_meaning(Settings(search_by_meaning=True)):
            pass


class _NoTasks:
    async def run(self, *args: object, **options: object) -> object:
        raise OSError("no process")
