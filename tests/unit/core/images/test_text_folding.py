"""Words of searches."""

from imago.core.images.text_folding import fold, query_words


def test_texts_and_queries_are_folded_alike() -> None:
    assert fold("L'Été à Noël — Œuvre_1.JPG") == "l ete a noel œuvre 1 jpg"
    assert query_words('"été" OR (noël*) NEAR & | !') == ("ete", "or", "noel", "near")
