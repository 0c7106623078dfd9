"""Extractive summaries: sentences of the text, few, in order, and the weighty ones."""

import time

import pytest

from imago.ai.offline.sentences import lines_of, sentences_of, shortened
from imago.ai.offline.summarizing import MAX_LENGTH, MAX_SENTENCES, summarize_text
from imago.ai.offline.texts import OfflineTextProvider
from imago.core.ai_usage.text_tasks import WebPage
from imago.core.languages import guess_language

ENGLISH = """The lighthouse of Saint Mary was built in 1843 on a rock two miles from the shore. Cookies help us.
The weather that week was mild. Its lamp burned whale oil until 1901, when the keepers changed the lamp to paraffin.
My cousin likes soup very much. The keepers of the lighthouse lived on the rock for three months at a time.
In 1967 the lighthouse was automated and the last keepers left the rock. A bird sat on a chair in the garden.
Today the lamp of the lighthouse is electric, and a museum on the shore shows how the keepers lived.
Some people wear hats on most days of the year. Tea is served in the afternoon by friendly staff."""

FRENCH = """Le phare de Sainte-Marie a été construit en 1843 sur un rocher à deux milles de la côte. Il faisait doux
cette semaine-là. La lampe du phare brûlait de l'huile jusqu'en 1901, quand les gardiens du phare l'ont remplacée.
Mon cousin aime beaucoup la soupe. En 1967, le phare a été automatisé et les derniers gardiens ont quitté le rocher.
Un oiseau était assis sur une chaise dans le jardin. M. Dupont, né en 1950, était gardien du phare avec son père."""


@pytest.mark.parametrize(
    ("text", "title", "language", "about", "beside"),
    [
        (ENGLISH, "The lighthouse of Saint Mary", "en", "lighthouse", "soup"),
        (FRENCH, "Le phare de Sainte-Marie", "fr", "phare", "soupe"),
    ],
)
def test_a_summary_is_of_the_texts_own_weightiest_sentences_in_order(
    text: str, title: str, language: str, about: str, beside: str
) -> None:
    summary = summarize_text(text, title=title, language=language)
    chosen = sentences_of(summary)
    flat = " ".join(text.split())
    assert 1 <= len(chosen) <= MAX_SENTENCES
    assert all(sentence in flat for sentence in chosen)
    assert [flat.index(sentence) for sentence in chosen] == sorted(flat.index(sentence) for sentence in chosen)
    assert about in summary
    assert beside not in summary
    assert len(summary) < len(flat) / 2


def test_the_same_thing_is_not_said_twice() -> None:
    text = "The harbour is closed for the winter this year. " * 30 + "A ferry leaves the island every morning at seven."
    assert summarize_text(text, title=None, language="en").count("harbour is closed") == 1


@pytest.mark.parametrize("text", ["word", "no sentence here", "x" * 50_000, "| a | table |", "日本語のテキスト", "..."])
def test_a_text_without_sentences_is_shortened(text: str) -> None:
    summary = summarize_text(text, title=None, language=None)
    assert summary
    assert len(summary) <= MAX_LENGTH


def test_a_text_without_spaces_between_words_is_summarized() -> None:
    text = "港は夜明け前に目を覚ます。漁師たちは銀色の網を持って帰ってくる。" * 3 + "猫は椅子の上で静かに眠っている。"
    assert summarize_text(text, title=None, language=None).endswith("。")


@pytest.mark.parametrize(
    "text",
    ["!" * 60_000, "a." * 30_000, "( " * 30_000, "\n" * 60_000, "A. " * 20_000, "It is so. " * 6000, "1) " * 9000],
)
def test_no_text_takes_long(text: str) -> None:
    began = time.process_time()
    summarize_text(text, title=None, language=None)
    assert time.process_time() - began < 5


def test_sentences_end_where_people_would_say_so() -> None:
    line = "Dr. Lee met M. Dupont at 5 p.m. in St. Ives. Was it late? “Never.” Version 2.5 was out, e.g. on Linux. End"
    assert sentences_of(line) == [
        "Dr. Lee met M. Dupont at 5 p.m. in St. Ives.",
        "Was it late?",
        "“Never.”",
        "Version 2.5 was out, e.g. on Linux.",
        "End",
    ]


def test_lines_that_go_on_are_joined_and_list_marks_are_seen() -> None:
    lines = lines_of("A sentence that\ngoes on.\n\nnew\n- one\n2. two\n* [ ] three\n• four\n-five")
    assert [(line.text, line.listed) for line in lines] == [
        ("A sentence that goes on.", False),
        ("new", False),
        ("one", True),
        ("two", True),
        ("three", True),
        ("four", True),
        ("-five", False),
    ]


def test_shortening_keeps_words_whole_and_the_length() -> None:
    assert shortened("one two three", 20) == "one two three"
    assert shortened("one two three four", 12) == "one two…"
    assert shortened("x" * 50, 10) == "x" * 9 + "…"


@pytest.mark.parametrize(
    ("text", "language"),
    [
        (ENGLISH, "en"),
        (FRENCH, "fr"),
        ("Der alte Hafen erwacht vor der Dämmerung, und die Fischer kommen mit ihren Netzen nach Hause.", "de"),
        ("El viejo puerto se despierta antes del amanecer y los pescadores vuelven a casa con sus redes.", "es"),
        ("Il vecchio porto si sveglia prima dell'alba e i pescatori tornano a casa con le loro reti.", "it"),
        ("O velho porto acorda antes do amanhecer e os pescadores voltam para casa com as suas redes.", "pt"),
        ("De oude haven wordt wakker voor de dageraad en de vissers komen met hun netten naar huis.", "nl"),
        ("Стара гавань прокидається до світанку, і рибалки повертаються додому з сітками.", None),
        ("lorem ipsum dolor sit amet consectetur adipiscing elit sed eiusmod tempor", None),
        ("short", None),
        ("", None),
    ],
)
def test_a_language_is_told_by_its_small_words(text: str, language: str | None) -> None:
    assert guess_language(text) == language


async def test_the_offline_provider_keeps_to_the_pages_language_and_says_so() -> None:
    page = WebPage("https://example.com/", "Le phare", FRENCH, "fr")
    summary = await OfflineTextProvider().summarize(page, language="en")
    assert (summary.language, summary.model_used) == ("fr", "offline/extractive")
    unknown = await OfflineTextProvider().summarize(WebPage("https://example.com/", None, "xyz", None), language="en")
    assert unknown.language == "und"
