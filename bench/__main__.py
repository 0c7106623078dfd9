"""`make bench`: measure Imago and its peer side by side, and write build/bench.json, build/bench.md and plots.

A missed target is reported and does not fail the run. A system that fails its functional checks does, because its
figures would then mean nothing.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.bench import Bench
from bench.checks import CheckFailed
from bench.environment import ROOT, Missing
from bench.load import UnexpectedAnswer
from bench.measures import exif, inline, memory, ocr, pipeline, queue, reads, scale, uploads
from bench.report import Report

# The order matters: `scale` simulates with figures of the others, and `reads` fills the tables with millions of rows.
MEASURES: dict[str, Callable[[Bench], None]] = {
    "uploads": uploads.measure,
    "inline": inline.measure,
    "queue": queue.measure,
    "ocr": ocr.measure,
    "exif": exif.measure,
    "pipeline": pipeline.measure,
    "memory": memory.measure,
    "reads": reads.measure,
    "scale": scale.measure,
}


def main() -> int:
    """Run the selected measurements and return the exit status."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=…", description=__doc__)
    parser.add_argument("measures", nargs="*", choices=[*MEASURES, []], help="default: all")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default: 5)")
    parser.add_argument("--full", action="store_true", help="full size: about an hour")
    parser.add_argument("--check", action="store_true", help="start and check both systems, and measure nothing")
    parser.add_argument("--output", type=Path, default=ROOT / "build", help="directory of bench.json and bench.md")
    options = parser.parse_args()
    report = Report(options.output / "bench-plots")
    folder = Path(tempfile.mkdtemp(prefix="imago-bench-"))
    bench = Bench(folder, report, rounds=options.rounds, full=options.full)
    try:
        if options.check:
            bench.check()
            print("bench: both systems start and pass their checks")
        else:
            _measure(bench, options.measures or list(MEASURES))
    except (CheckFailed, Missing, UnexpectedAnswer) as error:
        _keep_logs(folder, options.output / "bench-logs")
        print(f"bench: {error} (logs in {options.output / 'bench-logs'})", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted; figures measured so far are kept", file=sys.stderr)
    finally:
        bench.close()
        shutil.rmtree(folder, ignore_errors=True)
    if not options.check:
        _print_missed(report, options.output / "bench.md")
    return 0


def _measure(bench: Bench, names: Sequence[str]) -> None:
    try:
        for name in names:
            began = time.monotonic()
            MEASURES[name](bench)
            bench.report.write()
            print(f"bench: {name} took {time.monotonic() - began:.0f} s", file=sys.stderr)
    finally:
        bench.report.write()


def _print_missed(report: Report, page: Path) -> None:
    missed = report.missed()
    met = len(report.targets) - len(missed)
    print(f"bench: see {page}; {met} of {len(report.targets)} targets met")
    for name in missed:
        print(
            f"bench: missed: {name}: {report.targets[name]['value']:g}, the target is {report.targets[name]['target']}"
        )


def _keep_logs(folder: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    for log in folder.glob("*/*.log"):
        (target / log.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(log, target / log.parent.name)


if __name__ == "__main__":
    sys.exit(main())
