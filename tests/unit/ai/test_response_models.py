"""Validation of models' answers, with ten thousand mutated ones."""

import json
import random
from collections import Counter
from collections.abc import Callable

import pytest

from imago.ai.response_models import InvalidAnswer, ModelAnswer, decode
from imago.core.text.cleaning import clean_text
from tests.support.mutated_answers import GOOD, mutated, problems

COUNT = 10_000


def test_no_accepted_answer_of_ten_thousand_mutated_ones_is_invalid(
    record_property: Callable[[str, object], None],
) -> None:
    rng = random.Random(20261125)
    outcomes: Counter[str] = Counter()
    reasons: set[str] = set()
    for number in range(COUNT):
        expected = rng.choice(list(GOOD))
        text = mutated(rng, GOOD[expected])
        try:
            answer = decode(text, expected)
        except InvalidAnswer as error:
            outcomes["refused"] += 1
            reasons.add(str(error))
            continue
        wrong = problems(answer)
        outcomes["invalid" if wrong else "accepted"] += 1
        assert not wrong, f"answer {number}: {wrong}: {text[:300]!r}"
    print(f"{COUNT} mutated answers: {dict(outcomes)}, invalid {outcomes['invalid']}")
    record_property("outcomes", dict(outcomes))
    assert outcomes["invalid"] == 0
    # The reasons go to the provider and to the log, so they must not quote the answers.
    assert max(map(len, reasons)) < 1000
    assert not any("instructions" in reason for reason in reasons)
    # Both outcomes must be frequent for the test to be meaningful.
    assert min(outcomes["accepted"], outcomes["refused"]) > COUNT / 10


@pytest.mark.parametrize("answer", GOOD)
def test_a_schema_has_exactly_the_members_of_its_model(answer: type[ModelAnswer]) -> None:
    assert set(answer.SCHEMA["properties"]) == set(answer.model_fields) == set(answer.SCHEMA["required"])
    assert answer.SCHEMA["additionalProperties"] is False
    assert decode(json.dumps(GOOD[answer]), answer)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("a\r\nb\rc\u2028d", "a\nb\nc\nd"),
        ("a\tb\u00a0c", "a b c"),
        ("\u202eabc\u0000", "abc"),
        ("e\u0301", "é"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("a\n\n\n\n\nb", "a\n\nb"),
        ("  a  \n b ", "a\n b"),
        ("x" * 50, "x" * 20),
    ],
)
def test_texts_are_cleaned(text: str, clean: str) -> None:
    assert clean_text(text, limit=20) == clean


def test_a_text_of_one_line_has_no_line_breaks() -> None:
    assert clean_text(" a \n\n b\u2029c ", limit=20, lines=False) == "a b c"
