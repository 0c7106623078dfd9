"""Extractive summaries: the most salient sentences of a text, unchanged and in their order.

SumBasic (Nenkova and Vanderwende, "The Impact of Frequency on Summarization", 2005): a sentence scores the mean
frequency of its words, and words of a selected sentence lose weight. Sentences near the beginning, and sentences that
share words with the title, score a little higher.
"""

import re
from collections import Counter
from collections.abc import Sequence

from imago.ai.offline.sentences import lines_of, sentences_of, shorten
from imago.core.text.languages import STOP_WORDS, words_of

MAX_SENTENCES = 5
MAX_LENGTH = 1200

# One of this number of sentences is selected.
_SELECTION_RATIO = 4
# Shorter sentences are headings and buttons, longer ones lists and tables.
_WORDS = range(5, 80)

_POSITION_BONUS = 0.6
_TITLE_BONUS = 0.5

_SENTENCE_END = re.compile(r"""[.!?…。！？]["'”’»)\]]{0,3}$""")
_ALL_STOP_WORDS = frozenset().union(*STOP_WORDS.values())


def summarize_text(text: str, *, title: str | None, language: str | None) -> str:
    """Return a summary of at most `MAX_SENTENCES` sentences, or the beginning of a text without sentences."""
    sentences = _candidates(text)
    if not sentences:
        return shorten(" ".join(text.split()), MAX_LENGTH // 2)
    count = min(MAX_SENTENCES, max(1, len(sentences) // _SELECTION_RATIO))
    selected = select_salient(sentences, count=count, title=title, language=language)
    return " ".join(sentences[index] for index in sorted(selected))


def select_salient(
    sentences: Sequence[str], *, count: int, title: str | None = None, language: str | None = None
) -> list[int]:
    """Return the indexes of at most `count` salient sentences of at most `MAX_LENGTH` characters, the best first."""
    stop_words = STOP_WORDS.get(language or "", _ALL_STOP_WORDS)
    contents = [_content_words(sentence, stop_words) for sentence in sentences]
    weights = _weights(contents)
    title_words = set(_content_words(title or "", stop_words))
    selected: list[int] = []
    length = 0
    while len(selected) < count:
        scores = {
            index: _score(contents[index], weights, title_words=title_words, position=index / len(sentences))
            for index in range(len(sentences))
            if index not in selected and (not selected or length + len(sentences[index]) < MAX_LENGTH)
        }
        if not scores:
            break
        best = max(scores, key=lambda index: (scores[index], -index))
        selected.append(best)
        length += len(sentences[best]) + 1
        for word in set(contents[best]):
            weights[word] **= 2
    return selected


def _candidates(text: str) -> list[str]:
    unique: dict[str, None] = {}
    for line in lines_of(text):
        if line.text.startswith("|"):
            # A row of a table.
            continue
        for sentence in sentences_of(line.text):
            if _SENTENCE_END.search(sentence) and len(sentence) <= MAX_LENGTH // 2 and _has_sentence_length(sentence):
                unique.setdefault(sentence)
    return list(unique)


def _has_sentence_length(sentence: str) -> bool:
    # In languages without spaces a sentence is a few long words.
    words = words_of(sentence)
    return len(words) in _WORDS or (len(words) < _WORDS.start and not sentence.isascii() and len(sentence) >= 12)


def _content_words(text: str, stop_words: frozenset[str]) -> list[str]:
    return [word for word in words_of(text) if word not in stop_words and len(word) > 1]


def _weights(contents: list[list[str]]) -> dict[str, float]:
    counts = Counter(word for words in contents for word in words)
    total = sum(counts.values()) or 1
    return {word: count / total for word, count in counts.items()}


def _score(words: list[str], weights: dict[str, float], *, title_words: set[str], position: float) -> float:
    if not words:
        return 0.0
    mean = sum(weights[word] for word in words) / len(words)
    shared = len(title_words.intersection(words)) / len(title_words) if title_words else 0.0
    return mean * (1 + _POSITION_BONUS * (1 - position) ** 3 + _TITLE_BONUS * shared)
