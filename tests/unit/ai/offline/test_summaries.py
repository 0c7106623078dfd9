"""Extractive summaries: the most salient sentences of a text, in their order."""

import time

import pytest

from imago.ai.offline.sentences import lines_of, sentences_of, shorten
from imago.ai.offline.summaries import MAX_LENGTH, MAX_SENTENCES, summarize_text
from imago.ai.offline.text_provider import OfflineTextProvider
from imago.core.ai_usage.text_tasks import WebPage

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
    ("text", "title", "language", "topic", "digression"),
    [
        (ENGLISH, "The lighthouse of Saint Mary", "en", "lighthouse", "soup"),
        (FRENCH, "Le phare de Sainte-Marie", "fr", "phare", "soupe"),
    ],
)
def test_a_summary_has_the_most_salient_sentences_of_the_text_in_their_order(
    text: str, title: str, language: str, topic: str, digression: str
) -> None:
    summary = summarize_text(text, title=title, language=language)
    chosen = sentences_of(summary)
    flat = " ".join(text.split())
    assert 1 <= len(chosen) <= MAX_SENTENCES
    assert all(sentence in flat for sentence in chosen)
    assert [flat.index(sentence) for sentence in chosen] == sorted(flat.index(sentence) for sentence in chosen)
    assert topic in summary
    assert digression not in summary
    assert len(summary) < len(flat) / 2


def test_a_repeated_sentence_is_selected_once() -> None:
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
    started = time.process_time()
    summarize_text(text, title=None, language=None)
    assert time.process_time() - started < 5


def test_abbreviations_and_numbers_do_not_end_a_sentence() -> None:
    line = "Dr. Lee met M. Dupont at 5 p.m. in St. Ives. Was it late? “Never.” Version 2.5 was out, e.g. on Linux. End"
    assert sentences_of(line) == [
        "Dr. Lee met M. Dupont at 5 p.m. in St. Ives.",
        "Was it late?",
        "“Never.”",
        "Version 2.5 was out, e.g. on Linux.",
        "End",
    ]


def test_continued_lines_are_joined_and_list_markers_are_removed() -> None:
    lines = lines_of("A sentence that\ncontinues.\n\nnew\n- one\n2. two\n* [ ] three\n• four\n-five")
    assert [(line.text, line.listed) for line in lines] == [
        ("A sentence that continues.", False),
        ("new", False),
        ("one", True),
        ("two", True),
        ("three", True),
        ("four", True),
        ("-five", False),
    ]


def test_a_text_is_shortened_at_a_word() -> None:
    assert shorten("one two three", 20) == "one two three"
    assert shorten("one two three four", 12) == "one two…"
    assert shorten("x" * 50, 10) == "x" * 9 + "…"


async def test_the_offline_provider_summarizes_in_the_language_of_the_page() -> None:
    page = WebPage("https://example.com/", "Le phare", FRENCH, "fr")
    summary = await OfflineTextProvider().summarize(page, language="en")
    assert (summary.language, summary.model_used) == ("fr", "offline/extractive")
    unknown = await OfflineTextProvider().summarize(WebPage("https://example.com/", None, "xyz", None), language="en")
    assert unknown.language == "und"
