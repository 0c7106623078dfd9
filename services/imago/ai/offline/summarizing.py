"""Extractive summaries: the sentences of a text that say most of it, in their own order and words.

SumBasic (Nenkova and Vanderwende, "The Impact of Frequency on Summarization", 2005): a sentence counts by the mean
frequency of its words, and the words of a sentence that was taken count less from then on. Sentences near the
beginning, and those that share words with the title, count a little more.
"""

import re
from collections import Counter

from imago.ai.offline.sentences import lines_of, sentences_of, shortened
from imago.core.languages import STOP_WORDS, words_of

MAX_SENTENCES = 5
MAX_LENGTH = 1200

# Of this many sentences one is taken.
_ONE_OF = 4
# Shorter ones are headings and buttons, longer ones lists and tables.
_WORDS = range(5, 80)

_POSITION_BONUS = 0.6
_TITLE_BONUS = 0.5

_ENDS = re.compile(r"""[.!?…。！？]["'”’»)\]]{0,3}$""")
_ALL_STOP_WORDS = frozenset().union(*STOP_WORDS.values())


def summarize_text(text: str, *, title: str | None, language: str | None) -> str:
    """Return a summary of at most `MAX_SENTENCES` sentences; of a text without sentences, its beginning."""
    sentences = _candidates(text)
    if not sentences:
        return shortened(" ".join(text.split()), MAX_LENGTH // 2)
    stop_words = STOP_WORDS.get(language or "", _ALL_STOP_WORDS)
    contents = [_content(sentence, stop_words) for sentence in sentences]
    taken: list[int] = []
    length = 0
    weights = _weights(contents)
    titled = set(_content(title or "", stop_words))
    wanted = min(MAX_SENTENCES, max(1, len(sentences) // _ONE_OF))
    while len(taken) < wanted:
        scores = {
            index: _score(contents[index], weights, titled, index / len(sentences))
            for index in range(len(sentences))
            if index not in taken and (not taken or length + len(sentences[index]) < MAX_LENGTH)
        }
        if not scores:
            break
        best = max(scores, key=lambda index: (scores[index], -index))
        taken.append(best)
        length += len(sentences[best]) + 1
        for word in set(contents[best]):
            weights[word] **= 2
    return " ".join(sentences[index] for index in sorted(taken))


def _candidates(text: str) -> list[str]:
    found: dict[str, None] = {}
    for line in lines_of(text):
        if line.text.startswith("|"):
            # A row of a table.
            continue
        for sentence in sentences_of(line.text):
            if _ENDS.search(sentence) and len(sentence) <= MAX_LENGTH // 2 and _is_long_enough(sentence):
                found.setdefault(sentence)
    return list(found)


def _is_long_enough(sentence: str) -> bool:
    # Languages without spaces have few words of many letters.
    words = words_of(sentence)
    return len(words) in _WORDS or (len(words) < _WORDS.start and not sentence.isascii() and len(sentence) >= 12)


def _content(text: str, stop_words: frozenset[str]) -> list[str]:
    return [word for word in words_of(text) if word not in stop_words and len(word) > 1]


def _weights(contents: list[list[str]]) -> dict[str, float]:
    counts = Counter(word for words in contents for word in words)
    total = sum(counts.values()) or 1
    return {word: count / total for word, count in counts.items()}


def _score(words: list[str], weights: dict[str, float], titled: set[str], position: float) -> float:
    if not words:
        return 0.0
    mean = sum(weights[word] for word in words) / len(words)
    shared = len(titled.intersection(words)) / len(titled) if titled else 0.0
    return mean * (1 + _POSITION_BONUS * (1 - position) ** 3 + _TITLE_BONUS * shared)
