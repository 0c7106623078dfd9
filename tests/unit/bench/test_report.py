"""The report of the benchmark."""

import json
from pathlib import Path

import pytest

from bench.plots import Series
from bench.report import Report
from bench.statistics import Sample


@pytest.fixture
def report(tmp_path: Path) -> Report:
    """A report with a section."""
    made = Report(tmp_path / "plots")
    made.section("Uploads")
    return made


def test_figures_are_written_with_their_spread_and_target(report: Report, tmp_path: Path) -> None:
    report.add("rate", Sample((9.0, 7.0, 8.0)), relation=">=", target=8)
    report.write()
    written = json.loads((tmp_path / "bench.json").read_text())
    assert written["figures"] == {"rate": 8.0}
    assert written["spreads"] == {"rate": {"low": 7.0, "high": 9.0, "rounds": 3}}
    assert written["targets"] == {"rate": {"value": 8.0, "target": ">= 8", "met": True}}
    assert "| rate | 8 | 7 to 9, 3 rounds | >= 8 | yes |" in (tmp_path / "bench.md").read_text()


def test_a_missed_target_is_reported_without_an_exception(report: Report, tmp_path: Path) -> None:
    report.add("cost", 3.0, relation="<=", target=2)
    report.write()
    assert report.missed() == ["cost"]
    assert "**no**" in (tmp_path / "bench.md").read_text()
    assert "0 of 1 targets met" in (tmp_path / "bench.md").read_text()


def test_plots_are_written_beside_the_table_that_links_them(report: Report, tmp_path: Path) -> None:
    report.plot_bars("rates", "Rates", "per second", [Series("imago", [1.0])], ["900 KB"])
    report.write()
    assert (tmp_path / "plots" / "rates.svg").read_text().startswith("<svg")
    assert "![rates](plots/rates.svg)" in (tmp_path / "bench.md").read_text()
