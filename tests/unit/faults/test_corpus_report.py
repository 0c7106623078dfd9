"""The report about a corpus passes only if every file was looked at and every target was met."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.corpus_report import Attempt, Outcome, attempts_of, report
from tests.faults.process_memory import Watch

GOOD = Outcome("a.jpg", 201, image="u1", image_status="done", stages={"ocr": "done"})
REFUSED = Outcome("b.txt", 415, "unsupported-media-type")
ATTEMPT = Attempt("u1", "ocr", "done", 0.5)


def passes(
    folder: Path, *outcomes: Outcome, attempts: tuple[Attempt, ...] = (ATTEMPT,), memory: int = 0, found: int = 0
) -> bool:
    watch = Watch()
    watch.peaks["api"] = memory
    return report(outcomes, attempts, watch, {}, found=found or len(outcomes), folder=folder)


def test_accepted_and_refused_files_pass(tmp_path: Path) -> None:
    assert passes(tmp_path, GOOD, REFUSED)


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome("busy.jpg", 429, "rate-limited"),
        Outcome("busy.jpg", 503, "unavailable"),
        Outcome("bug.jpg", 500, "internal-error"),
        Outcome("lost.jpg", 0, "ServerDisconnectedError"),
        Outcome("key.jpg", 401, "unauthenticated"),
        replace(GOOD, image_status="never ended"),
        replace(GOOD, image="u2"),
    ],
)
def test_a_file_that_was_not_looked_at_fails(tmp_path: Path, outcome: Outcome) -> None:
    assert not passes(tmp_path, GOOD, outcome)


def test_a_file_that_was_found_and_not_sent_fails(tmp_path: Path) -> None:
    assert not passes(tmp_path, GOOD, found=2)


def test_a_folder_without_files_fails(tmp_path: Path) -> None:
    assert not passes(tmp_path)


def test_a_slow_attempt_fails_even_if_a_later_one_succeeded(tmp_path: Path) -> None:
    assert not passes(tmp_path, GOOD, attempts=(Attempt("u1", "ocr", "retrying", 10.5), ATTEMPT))


def test_a_process_that_is_too_large_fails(tmp_path: Path) -> None:
    assert passes(tmp_path, GOOD, memory=640 * 2**20)
    assert not passes(tmp_path, GOOD, memory=641 * 2**20)


def test_attempts_come_from_the_logs_of_workers() -> None:
    logs = [
        {
            "event": "stage.attempted",
            "image": "u1",
            "stage": "ocr",
            "outcome": "retrying",
            "attempt": 1,
            "seconds": 2.5,
        },
        {"event": "image.done", "image": "u1", "seconds": 9.0},
    ]
    assert attempts_of(logs) == [Attempt("u1", "ocr", "retrying", 2.5)]
