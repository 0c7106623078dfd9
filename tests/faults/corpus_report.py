"""The report about a corpus: what was found, sent, refused and processed, and whether every target was met."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.figures import Figures
from tests.faults.process_memory import Watch

SLOWEST = 5
MIB = 2**20

# Targets: one attempt of a stage from its claim, one upload, one process.
LONGEST_STAGE_SECONDS = 10.0
LONGEST_UPLOAD_SECONDS = 10.0
MOST_MEMORY_MIB = 640

ENDED = ("done", "partial", "failed")

# The answers that say that Imago has looked at the file: accepted, or refused for its size, format or contents.
LOOKED_AT = (201, 413, 415, 422)


@dataclass
class Outcome:
    """What became of one file."""

    name: str
    status: int = 0
    code: str = ""
    upload_seconds: float = 0.0
    image: str = ""
    image_status: str = ""
    stages: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Attempt:
    """One attempt of a stage; the seconds begin with the claim, so they do not include the queue."""

    image: str
    stage: str
    outcome: str
    seconds: float


def attempts_of(logs: Iterable[dict[str, Any]]) -> list[Attempt]:
    """Return the attempts that workers have logged, failed ones included."""
    return [
        Attempt(line.get("image", ""), line.get("stage", ""), line["outcome"], line["seconds"])
        for line in logs
        if line.get("event") == "stage.attempted"
    ]


def report(
    outcomes: Sequence[Outcome],
    attempts: Sequence[Attempt],
    watch: Watch,
    exits: dict[str, int],
    *,
    found: int,
    folder: Path,
) -> bool:
    """Print and write the report; return whether every target was met."""
    figures = Figures("corpus")
    figures.note("files found", found)
    figures.note("files sent", sum(one.status != 0 for one in outcomes))
    for status in ENDED:
        figures.note(f"images {status}", sum(one.image_status == status for one in outcomes))
    held = [_hold(figures, *target) for target in _targets(outcomes, attempts, watch, found=found)]
    figures.note("most memory of all processes together (MiB)", watch.peak_sum / MIB)
    figures.note("child processes that ended by themselves", str(exits))
    _print_details(outcomes, attempts, watch)
    figures.write(folder)
    write_outcomes(outcomes, folder)
    print((folder / "corpus.md").read_text())
    return all(held)


def write_outcomes(outcomes: Sequence[Outcome], folder: Path) -> None:
    """Write what became of each file to `corpus-files.json` in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "corpus-files.json").write_text(json.dumps([vars(one) for one in outcomes], indent=1))


def _targets(
    outcomes: Sequence[Outcome], attempts: Sequence[Attempt], watch: Watch, *, found: int
) -> list[tuple[str, float, str, float]]:
    processed = {attempt.image for attempt in attempts}
    accepted = [one for one in outcomes if one.status == 201]
    return [
        ("files looked at", sum(one.status in LOOKED_AT for one in outcomes), "==", found),
        # A report about nothing must not pass.
        ("files found at least", found, ">=", 1),
        ("accepted files without an attempt in the logs", sum(one.image not in processed for one in accepted), "==", 0),
        ("files that got a 5xx or no answer", sum(one.status == 0 or one.status >= 500 for one in outcomes), "<=", 0),
        ("images that never ended", sum(one.image_status not in ENDED for one in accepted), "<=", 0),
        ("processes that died", len(watch.dead_parents), "<=", 0),
        ("longest attempt of a stage (s)", _longest(attempts), "<=", LONGEST_STAGE_SECONDS),
        ("slowest upload (s)", max((one.upload_seconds for one in outcomes), default=0), "<=", LONGEST_UPLOAD_SECONDS),
        ("most memory of one process (MiB)", max(watch.peaks.values(), default=0) / MIB, "<=", MOST_MEMORY_MIB),
    ]


def _longest(attempts: Sequence[Attempt]) -> float:
    return max((attempt.seconds for attempt in attempts), default=0)


def _hold(figures: Figures, name: str, value: float, relation: str, target: float) -> bool:
    try:
        figures.hold(name, value, relation, target)
    except AssertionError as error:
        print(f"NOT MET: {error}")
        return False
    return True


def _print_details(outcomes: Sequence[Outcome], attempts: Sequence[Attempt], watch: Watch) -> None:
    _print_counts("answers", Counter(f"{one.status} {one.code}".strip() for one in outcomes))
    _print_counts("images", Counter(one.image_status for one in outcomes if one.image_status))
    stages = Counter(f"{stage}: {code}" for one in outcomes for stage, code in one.stages.items() if code != "done")
    _print_counts("stages that did not succeed", stages)
    names = {one.image: one.name for one in outcomes if one.image}
    print("slowest attempts by stage, from the claim:")
    for stage in sorted({attempt.stage for attempt in attempts}):
        of_stage = [attempt for attempt in attempts if attempt.stage == stage]
        for one in sorted(of_stage, key=lambda attempt: -attempt.seconds)[:SLOWEST]:
            print(f"  {one.seconds:6.2f} s  {stage:<10} {one.outcome:<9} {names.get(one.image, one.image)}")
    print("most memory by process:")
    for name, peak in watch.peaks.most_common():
        print(f"  {peak / MIB:6.0f} MiB  {name}")
    if watch.dead_parents:
        print(f"processes that died: {watch.dead_parents}")
    missed = [f"{one.name} ({one.status} {one.code})" for one in outcomes if one.status not in LOOKED_AT]
    for name in missed[:20]:
        print(f"not looked at: {name}")


def _print_counts(title: str, counts: Counter[str]) -> None:
    print(f"{title}:")
    for name, count in counts.most_common():
        print(f"  {count:6}  {name}")
