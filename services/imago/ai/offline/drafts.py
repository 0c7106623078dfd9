"""Task drafts: a plain template filled with the sentences of a description.

Listed lines become steps, or criteria below a heading such as "Acceptance criteria". Sentences with an obligation or a
measure become criteria, and the other sentences steps. What the text lacks is what is typical of its kind of work.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from imago.ai.offline.sentences import lines_of, sentences_of, shorten
from imago.ai.offline.work_kinds import begins_with_a_verb, find_kind, reports_a_fault
from imago.core.ai_usage.text_tasks import Priority, TaskDraft
from imago.core.images.tags import normalize_tags
from imago.core.text.languages import STOP_WORDS, detect_language, words_of

MODEL_NAME = "offline/draft"

MAX_TITLE = 100
MAX_OBJECTIVE = 600
MAX_ITEM = 300
MAX_ITEMS = 20
_MAX_TAGS = 6
_MIN_TAG_LETTERS = 5


@dataclass(frozen=True)
class DraftTemplate:
    """What a draft says besides a text's sentences and its kind of work, in one language."""

    language: str
    estimates: tuple[str, str, str]
    """For up to two, up to five, and more steps."""


_ENGLISH = DraftTemplate(
    language="en",
    estimates=("half a day", "a day or two", "about a week"),
)
_FRENCH = DraftTemplate(
    language="fr",
    estimates=("une demi-journée", "un à deux jours", "environ une semaine"),
)


def _phrases(*alternatives: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w)(?:{'|'.join(alternatives)})(?!\w)", re.IGNORECASE)


_GREETING = re.compile(
    r"(?:(?:please|hello|hi|we need to|we have to|we want to|(?:can|could) you|bonjour|merci de|veuillez"
    r"|il faut|il faudrait|nous devons|on doit|pouvez-vous|peux-tu)(?!\w)[,!]? ){1,3}(?=\S)",
    re.IGNORECASE,
)
_SEQUENCE = re.compile(r" ?; |,? (?:and |et )?(?:then|puis|ensuite) ", re.IGNORECASE)
_PURPOSE = _phrases("so that", "in order to", "the goal is", "afin (?:de|que)", "afin d'\\w+", "pour que", "le but est")
_OBLIGATION = _phrases("must", "should", "shall", "doit", "doivent", "devra", "devront", "devrait", "devraient")
_MEASURE = _phrases(
    r"\d+ ?%",
    r"\d+ ?(?:ms|s|seconds?|secondes?|minutes?|[kmg]i?b|[kmg]o)",
    *("at least", "at most", "no more than", "no less than", "au moins", "au plus"),
)
_EFFORT = _phrases(
    r"(?:an?|one|two|three|une?|deux|trois|\d{1,3}(?:-\d{1,3})?) (?:hours?|days?|weeks?|heures?|jours?|semaines?)"
    " (?:of work|de travail)"
)
_WEEKDAYS = (
    "(?:monday|tuesday|wednesday|thursday|friday|saturday|sunday|lundi|mardi|mercredi|jeudi|vendredi|samedi|dimanche)"
)
# LOW comes first, because "not urgent" contains "urgent".
_PRIORITIES = {
    Priority.LOW: _phrases("not urgent", "no rush", "no hurry", "pas urgent", "rien ne presse", "sans urgence"),
    Priority.URGENT: _phrases("urgent", "urgente", "asap", "immediately", "is down", "immédiatement", "en panne"),
    Priority.HIGH: _phrases(
        *("important", "importante", "deadline", "today", "tomorrow", "aujourd'hui", "demain"),
        rf"(?:before|by|avant|d'ici|pour) {_WEEKDAYS}",
    ),
}
# The whole line, so that a task such as "Gather requirements." is not taken for a heading.
_CRITERIA_HEADING = re.compile(
    r"(?:#+ )?\W{0,3}(?:acceptance(?: criteria)?|criteria|definition of done|done when|requirements"
    r"|(?:critères|conditions)(?: d['’]acceptation)?|exigences|terminé quand)\W{0,4}",
    re.IGNORECASE,
)
_NOT_TAGS = frozenset(("please", "should", "every", "bonjour", "merci", "veuillez", "doivent", "urgent"))


def draft_task(description: str, *, context: str) -> TaskDraft:
    """Return the draft of a described task. The context only supplies what the description lacks."""
    text = f"{description}\n{context}"
    own, additional = _parse(description), _parse(context)
    lead = _plain(own.lead or " ".join(description.split()))
    template = _template(description, text, lead)
    kind, subject = find_kind(lead, template.language)
    purpose = next((sentence for sentence in own.sentences[1:] if _PURPOSE.search(sentence)), None)
    criteria = own.criteria(except_for=purpose) or additional.criteria(except_for=None)
    steps = own.steps(except_for=(*criteria, purpose))
    if not own.listed and reports_a_fault(lead) and not begins_with_a_verb(lead, template.language):
        # It is the reason of the task.
        steps = [step for step in steps if step != lead]
    if len(steps) < 2:
        steps = additional.listed or steps
    typical = [phrase.format(subject) for phrase in kind.criteria]
    return TaskDraft(
        title=shorten(lead, MAX_TITLE),
        objective=shorten(purpose or kind.objective.format(subject), MAX_OBJECTIVE),
        steps=_items(steps if len(steps) > 1 else kind.steps),
        acceptance_criteria=_items(criteria or typical),
        estimate=_estimate(text, len(steps), template),
        priority=_priority(description, context),
        tags=_tags(description, context, template),
        model_used=MODEL_NAME,
    )


@dataclass(frozen=True)
class _ParsedText:
    sentences: list[str]
    listed: list[str]
    listed_criteria: list[str]

    @property
    def lead(self) -> str | None:
        return next(iter([*self.sentences, *self.listed, *self.listed_criteria]), None)

    def criteria(self, *, except_for: str | None) -> list[str]:
        """Return the listed criteria and the sentences that state one. The first sentence is the task itself."""
        stated = [
            sentence
            for sentence in self.sentences[1:]
            if sentence != except_for and (_OBLIGATION.search(sentence) or _MEASURE.search(sentence))
        ]
        return [*self.listed_criteria, *stated]

    def steps(self, *, except_for: Iterable[str | None]) -> list[str]:
        """Return the listed lines, or else the sentences, split where one has several steps."""
        if self.listed:
            return self.listed
        others = set(except_for)
        sentences = [text for text in self.sentences if text not in others and not text.endswith((":", "?"))]
        return [_plain(part) for sentence in sentences for part in _SEQUENCE.split(sentence) if part.strip()]


def _parse(text: str) -> _ParsedText:
    parsed = _ParsedText([], [], [])
    below_heading = False
    for line in lines_of(text):
        if line.listed:
            (parsed.listed_criteria if below_heading else parsed.listed).append(line.text)
            continue
        below_heading = _CRITERIA_HEADING.fullmatch(line.text) is not None
        if not below_heading:
            parsed.sentences.extend(sentences_of(line.text))
    return parsed


def _plain(sentence: str) -> str:
    """Return a sentence without greeting and final punctuation, and with a capital letter."""
    plain = _GREETING.sub("", sentence, count=1) if _GREETING.match(sentence) else sentence
    plain = plain.rstrip(" .:;!?…") or sentence
    return plain[:1].upper() + plain[1:]


def _template(description: str, text: str, lead: str) -> DraftTemplate:
    expected = ("fra", "eng")
    language = detect_language(description, expected=expected) or detect_language(text, expected=expected)
    if language is None and begins_with_a_verb(lead, "fr"):
        language = "fr"
    return _FRENCH if language == "fr" else _ENGLISH


def _items(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(shorten(text, MAX_ITEM) for text in dict.fromkeys(texts))[:MAX_ITEMS]


def _estimate(text: str, steps: int, template: DraftTemplate) -> str:
    stated = _EFFORT.search(text)
    if stated is not None:
        return stated[0].lower()
    short, medium, long = template.estimates
    return short if steps <= 2 else medium if steps <= 5 else long


def _priority(description: str, context: str) -> Priority:
    for text in (description, context):
        for priority, phrases in _PRIORITIES.items():
            if phrases.search(text):
                return priority
    return Priority.MEDIUM


def _tags(description: str, context: str, template: DraftTemplate) -> tuple[str, ...]:
    excluded = STOP_WORDS[template.language] | _NOT_TAGS
    counts: Counter[str] = Counter()
    # A word of the description counts twice as much as one of the context.
    for text, weight in ((description, 2), (context, 1)):
        for word in words_of(text):
            if len(word) >= _MIN_TAG_LETTERS and word not in excluded:
                counts[word] += weight
    return normalize_tags(word for word, _ in counts.most_common(_MAX_TAGS))
