"""Drafts of tasks, made of a text's own sentences: what is listed or demanded becomes steps, what must hold criteria.

A draft and no more, in the text's language; `draft_words` holds the words that it goes by.
"""

from collections import Counter

from imago.ai.offline.draft_words import ENGLISH, FRENCH, DraftWords
from imago.ai.offline.sentences import Line, lines_of, sentences_of, shortened
from imago.core.ai_usage.text_tasks import Priority, TaskDraft
from imago.core.images.tags import normalize_tags
from imago.core.languages import STOP_WORDS, words_of

MODEL_NAME = "offline/draft"

MAX_TITLE = 100
MAX_OBJECTIVE = 600
MAX_ITEM = 300
MAX_ITEMS = 20
_MAX_TAGS = 6
_MIN_TAG_LETTERS = 4


def draft(description: str, *, context: str) -> TaskDraft:
    """Return a draft of the task that a description asks for; a context adds to it and never overrules it."""
    words = _words_for(f"{description}\n{context}")
    lines = lines_of(description)
    told = [sentence for line in lines if not line.listed for sentence in sentences_of(line.text)]
    items = [line.text for line in lines if line.listed]
    # A description of list items alone begins with the first.
    first = told[0] if told else (items[0] if items else description.strip())
    criteria = _criteria(lines, words) or _criteria(lines_of(context), words)
    objective = next((text for text in told if words.purpose.search(text) and text not in criteria), first)
    steps = (
        _steps(lines, criteria, words) or _steps(lines_of(context), criteria, words) or [_plain(first, words) or first]
    )
    return TaskDraft(
        title=shortened(_plain(first, words).rstrip(" .:;!?…") or first, MAX_TITLE),
        objective=shortened(objective.rstrip(" :;") or objective, MAX_OBJECTIVE),
        steps=_items(steps),
        acceptance_criteria=_items(criteria or [words.fulfilled.format(shortened(objective.rstrip(" .:;"), 200))]),
        estimate=_estimate(f"{description}\n{context}", len(steps), words),
        priority=_priority(description, context, words),
        tags=_tags(description, context, words),
        model_used=MODEL_NAME,
    )


def _words_for(text: str) -> DraftWords:
    words = words_of(text)
    french, english = (sum(word in STOP_WORDS[language] for word in words) for language in ("fr", "en"))
    return FRENCH if french > english else ENGLISH


def _steps(lines: list[Line], criteria: list[str], words: DraftWords) -> list[str]:
    """Return what is to be done: the items of lists, else demands, in parts where one asks for several things."""
    listed = [line.text for line in _before_criteria(lines, words) if line.listed]
    if listed:
        return listed
    sentences = [sentence for line in lines for sentence in sentences_of(line.text)]
    demands = [text for text in sentences if words.demand.search(text) and text not in criteria]
    parts = [part for sentence in demands for part in words.sequence.split(sentence)]
    return [plain for part in parts if (plain := _plain(part, words))]


def _before_criteria(lines: list[Line], words: DraftWords) -> list[Line]:
    found = []
    for line in lines:
        if not line.listed and words.criteria_heading.search(line.text):
            break
        found.append(line)
    return found


def _criteria(lines: list[Line], words: DraftWords) -> list[str]:
    """Return what must hold: the items under such a heading, and sentences that say so."""
    behind = lines[len(_before_criteria(lines, words)) :]
    found = [line.text for line in behind if line.listed]
    for line in lines:
        if not line.listed:
            sentences = [text for text in sentences_of(line.text) if not text.endswith(":")]
            found += [text for text in sentences if words.condition.search(text)]
    return list(dict.fromkeys(found))


def _plain(text: str, words: DraftWords) -> str:
    """Return a demand without what is only polite, beginning with a capital."""
    stripped = words.politeness.sub("", text.strip(), count=1).strip(" ,.;")
    return stripped[:1].upper() + stripped[1:]


def _items(texts: list[str]) -> tuple[str, ...]:
    return tuple(shortened(text, MAX_ITEM) for text in dict.fromkeys(texts))[:MAX_ITEMS]


def _estimate(text: str, steps: int, words: DraftWords) -> str:
    said = words.duration.search(text)
    if said is not None:
        return " ".join(said[0].split()).lower()
    small, medium, large = words.guesses
    return small if steps <= 2 else medium if steps <= 5 else large


def _priority(description: str, context: str, words: DraftWords) -> Priority:
    for text in (description, context):
        # "Not urgent" holds the word, too.
        for pattern, priority in (
            (words.low, Priority.LOW),
            (words.urgent, Priority.URGENT),
            (words.high, Priority.HIGH),
        ):
            if pattern.search(text):
                return priority
    return Priority.MEDIUM


def _tags(description: str, context: str, words: DraftWords) -> tuple[str, ...]:
    counts: Counter[str] = Counter()
    # The description's words come first, and count for more than those around it.
    for text, weight in ((description, 2), (context, 1)):
        for word in words_of(text):
            if len(word) >= _MIN_TAG_LETTERS and word not in STOP_WORDS[words.language] and word not in words.dull:
                counts[word] += weight
    return normalize_tags(word for word, _ in counts.most_common(_MAX_TAGS))
