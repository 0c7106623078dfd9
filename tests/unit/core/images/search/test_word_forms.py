"""Singulars, plurals and stop words in English and French."""

import pytest

from imago.core.images.search.word_forms import number_forms, without_stop_words


@pytest.mark.parametrize(
    ("singular", "plural"),
    [
        *(("dog", "dogs"), ("bus", "buses"), ("city", "cities"), ("glass", "glasses"), ("watch", "watches")),
        *(("potato", "potatoes"), ("man", "men"), ("person", "people"), ("knife", "knives"), ("horse", "horses")),
        *(("chien", "chiens"), ("bateau", "bateaux"), ("cheval", "chevaux"), ("jeu", "jeux"), ("genou", "genoux")),
        *(("oeil", "yeux"), ("animal", "animaux"), ("animal", "animals"), ("pneu", "pneus"), ("shoe", "shoes")),
    ],
)
def test_a_noun_and_its_plural_are_forms_of_each_other(singular: str, plural: str) -> None:
    assert plural in number_forms(singular)
    assert singular in number_forms(plural)


@pytest.mark.parametrize("word", ["news", "bras", "a", "as", "abc123", "été", "東京", "2024", "glass"])
def test_no_other_word_is_a_form_of_a_word(word: str) -> None:
    assert not {"new", "bra", "glas", "201", "et"} & {*number_forms(word)}


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("cars in the street", ["cars", "street"]),
        ("Les chiens sur la plage", ["chiens", "plage"]),
        ("L’homme à la casquette d'Anne", ["homme", "casquette", "anne"]),
        ("the dog's bowl", ["dog", "bowl"]),
        ("une tasse de thé", ["tasse", "thé"]),
        ("plan d", ["plan", "d"]),
        ("aujourd'hui", ["aujourd'hui"]),
        ("Of_The_Rings", ["of_the_rings"]),
    ],
)
def test_articles_and_prepositions_are_ignored(query: str, words: list[str]) -> None:
    assert without_stop_words(query).split() == words


@pytest.mark.parametrize("query", ["the", "la", "À", "of the", "—"])
def test_a_query_of_stop_words_only_is_kept(query: str) -> None:
    assert without_stop_words(query) == query
