"""Reads the folder, asks Imago, prints the report."""

import json
from pathlib import Path

import click

from imago.cli.errors import CommandError
from imago.cli.evaluating.collecting import Collector, Failures
from imago.cli.evaluating.instance import running_instance
from imago.evaluation.labels import FILE, BadLabels, Labels, parse_labels
from imago.evaluation.report import Report, make_report
from imago.settings import Settings


async def evaluate_folder(settings: Settings, folder: Path, *, as_json: bool, timeout: float) -> bool:
    """Print how well Imago does on a folder; return whether every image was processed. Raises CommandError."""
    labels = read_labels(folder)
    async with running_instance(settings) as instance:
        collector = Collector(instance, folder, labels, timeout=timeout)
        answers, failures = await collector.collect()
    if not answers.images:
        raise CommandError(f"{folder}: no image could be processed; the first failure: {_first(failures)}")
    _print(make_report(labels, answers), as_json=as_json)
    for file, reason in failures.items():
        click.echo(f"{folder / file}: {reason}", err=True)
    return not failures


def read_labels(folder: Path) -> Labels:
    """Read the labels of a folder and check that their files exist; raise CommandError."""
    path = folder / FILE
    try:
        labels = parse_labels(path.read_bytes())
    except FileNotFoundError:
        raise CommandError(f"{folder}: no {FILE}; docs/accuracy.md describes it") from None
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from None
    except BadLabels as error:
        raise CommandError(f"{folder}: {error}") from None
    if missing := sorted(file for file in labels.images if not (folder / file).is_file()):
        raise CommandError(f"{folder}: {FILE} names {missing[0]!r}, which is not in the folder")
    return labels


def _first(failures: Failures) -> str:
    file, reason = next(iter(failures.items()))
    return f"{file}: {reason}"


def _print(report: Report, *, as_json: bool) -> None:
    click.echo(json.dumps(report.to_json(), ensure_ascii=False, indent=2) if as_json else report.to_text())
