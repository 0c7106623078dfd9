"""The terms of documents and queries."""

import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imago.core.images.search.terms import SearchTerm, document_terms, query_terms


def finds(query: str, document: str) -> bool:
    """Match as both databases do."""
    terms = document_terms(document).split()
    return bool(query_terms(query)) and all(_has(term, terms) for term in query_terms(query))


def _has(term: SearchTerm, terms: Sequence[str]) -> bool:
    return any(
        each in term.forms or each == term.text or (term.prefix and each.startswith(term.text)) for each in terms
    )


def test_the_words_of_a_query_are_whole_except_the_last() -> None:
    words = query_terms('"été" NOT (noël*) ab & | ! x')
    assert [term.text for term in words] == ["ete", "not", "noel", "ab", "x"]
    assert [term.prefix for term in words] == [False, False, False, False, True]
    assert not any(term.prefix for term in query_terms("été noël", prefixes=False))


@pytest.mark.parametrize(
    ("query", "document"),
    [
        ("東京", "私は東京に住んでいます"),
        ("京", "私は東京に住んでいます"),
        ("す", "私は東京に住んでいます"),
        ("住んでいます", "私は東京に住んでいます"),
        ("住んで 東京", "私は東京に住んでいます"),
        ("東京", "私 は 東 京 に 住 ん で い ます"),
        ("東京", "東\n京"),
        ("東京タワー", "ﾄｳｷﾖｳ東京ﾀﾜｰ"),
        ("北京大学", "我在北京大学学习"),
        ("大", "我在北京大学学习"),
        ("𠮷野家", "牛丼の𠮷野家で"),
        ("กรุงเทพ", "ฉันอยู่ที่กรุงเทพมหานคร"),
        ("มหานคร", "ฉันอยู่ที่กรุงเทพมหานคร"),
        ("서울", "우리는서울특별시에서"),
        ("ຫຼວງ", "ນະຄອນຫຼວງວຽງຈັນ"),
        ("ភ្នំពេញ", "ទីក្រុងភ្នំពេញជា"),
        ("ရန်ကုန်", "မြန်မာနိုင်ငံရန်ကုန်မြို့"),
        ("iphone", "我的iPhone手机"),
        ("手机", "我的iPhone手机"),
        ("iPhone手", "我的iPhone手机"),
        ("2024年", "2024年东京"),
        ("coeur", "Cœur"),
        ("strasse", "Straße"),
        ("strass", "Straße"),
        ("dupont pass", "passport of M. Dupont"),
        ("cars in the street", "A car on a street"),
        ("le cheval", "Deux chevaux"),
        ("les chevaux", "un cheval"),
    ],
)
def test_words_are_found_inside_texts(query: str, document: str) -> None:
    assert finds(query, document)


@pytest.mark.parametrize(
    ("query", "document"),
    [
        ("京東", "私は東京に住んでいます"),
        ("東京都", "京都と東京"),
        ("大阪", "東京"),
        ("ハリ", "パリの街"),
        ("かき", "がきの使い"),
        ("trasse", "Straße"),
        ("ete noel x", "été noël"),
        ("—", "—"),
    ],
)
def test_other_words_are_not_found(query: str, document: str) -> None:
    assert not finds(query, document)


@given(st.text(st.characters(codec="utf-8"), max_size=200), st.data())
def test_every_part_of_a_text_in_a_script_without_spaces_is_found(noise: str, data: st.DataObject) -> None:
    word = data.draw(st.text("東京大阪名古屋ガパのに한กรุ", min_size=1, max_size=20))
    start = data.draw(st.integers(0, len(word) - 1))
    part = word[start : data.draw(st.integers(start + 1, len(word)))]
    assert not query_terms(part) or finds(part, f"{noise} {word} {noise}")


@given(st.text(st.characters(codec="utf-8"), max_size=300))
def test_terms_hold_no_character_of_a_search_language(text: str) -> None:
    terms = [term.text for term in query_terms(text)] + document_terms(text).split(" ")
    assert not any(set(term) & set("'\"\\*:&|!() \0\n\t") for term in terms)


@pytest.mark.parametrize("unit", ["一", "𠮷", "é ", "a", "กิ"])
def test_large_documents_stay_within_the_limits_of_a_tsvector(unit: str) -> None:
    varied = "".join(chr(0x4E00 + number * 7 % 20_000) for number in range(300_000)) if unit == "一" else unit * 300_000
    started = time.process_time()
    terms = document_terms(varied).split(" ")
    assert sum(len(term.encode()) for term in terms) <= 1_000_000
    assert max(len(term.encode()) for term in terms) < 2046
    assert time.process_time() - started < 5


def test_a_query_of_a_whole_page_has_a_limited_number_of_terms() -> None:
    assert len(query_terms("東京大阪名古屋" * 100)) <= 64
    assert len(query_terms(" ".join(f"w{number}" for number in range(500)))) == 64
