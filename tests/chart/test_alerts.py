"""Alert rules are valid, fire when they should and only then, and refer to existing metrics and runbooks."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_python.chart import Chart

from tests.support.manifests import render, scenario
from tests.support.series import existing_series

ROOT = Path(__file__).parents[2]
RULES = sorted((ROOT / "k8s" / "alerts").glob("*.yaml"))
CASES = sorted((Path(__file__).parent / "alerts").glob("*.yaml"))
# Exported by KEDA's operator.
FOREIGN = re.compile(r"keda_")


def _rules(path: Path) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]


def _promtool() -> str:
    """Return the path of promtool: the one in PATH, or the one that `make setup` put into the cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    found = shutil.which("promtool") or shutil.which("promtool", path=cache / "imago" / "prometheus")
    if found is None:
        pytest.skip("promtool is missing (`make setup` unpacks Debian's)")
    return found


def _existing() -> set[str]:
    """Return the names of all of Imago's series, including those of recording rules."""
    return existing_series() | {rule["record"] for each in RULES for rule in _rules(each) if "record" in rule}


def _run_promtool(*arguments: str | Path) -> None:
    done = subprocess.run([_promtool(), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_are_found() -> None:
    assert len([rule for path in RULES for rule in _rules(path) if "alert" in rule]) > 20


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.stem)
def test_prometheus_accepts_the_rules(path: Path) -> None:
    _run_promtool("check", "rules", path)


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.stem)
def test_every_alert_has_a_severity_a_summary_and_a_description(path: Path) -> None:
    for rule in _rules(path):
        if "alert" in rule:
            assert rule["labels"]["severity"] in {"info", "warning", "critical"}, rule["alert"]
            assert rule["annotations"]["summary"], rule["alert"]
            assert rule["annotations"]["description"], rule["alert"]


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.stem)
def test_every_metric_of_a_rule_exists(path: Path) -> None:
    existing = _existing()
    for rule in _rules(path):
        named = set(re.findall(r"\b(?:imago[_:]|keda_)[a-z0-9_:]+", rule["expr"]))
        assert named, rule
        assert {name for name in named - existing if not FOREIGN.match(name)} == set(), rule


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_alerts_fire_in_their_test_cases_with_the_expected_texts(path: Path) -> None:
    _run_promtool("test", "rules", path)


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.stem)
def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not(path: Path) -> None:
    files = [yaml.safe_load(case.read_text()) for case in CASES]
    cases = [case for file in files if Path(file["rule_files"][0]).name == path.name for case in file["tests"]]
    seen = {
        (expected["alertname"], bool(expected["exp_alerts"])) for case in cases for expected in case["alert_rule_test"]
    }
    alerts = {rule["alert"] for rule in _rules(path) if "alert" in rule}
    assert {name for name, _ in seen} == alerts
    assert {name for name, fires in seen if fires} == alerts, "some alerts have no case in which they fire"
    assert {name for name, fires in seen if not fires} == alerts, "some alerts have no case in which they do not fire"


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    named = {
        rule["alert"]: rule["annotations"].get("runbook") for path in RULES for rule in _rules(path) if "alert" in rule
    }
    assert named == {name: f"docs/runbooks/{name}.md" for name in named}
    assert {path.stem for path in (ROOT / "docs" / "runbooks").glob("*.md")} == set(named)


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "runbooks").glob("*.md")), ids=lambda path: path.stem)
def test_a_runbook_has_all_sections_and_refers_to_existing_metrics_and_pages(path: Path) -> None:
    text = path.read_text()
    for heading in ("**What it means.**", "**How bad.**", "**Look**", "**Do**"):
        assert heading in text
    assert set(re.findall(r"\bimago_[a-z0-9_]+", text)) <= _existing()
    for link in re.findall(r"\]\(([^)#]+)", text):
        assert (path.parent / link).is_file(), link


def test_alerts_link_to_their_runbooks_below_the_base_url(chart: Chart) -> None:
    monitored = {"enabled": True, "runbookBaseUrl": "https://docs.example.com/runbooks/"}
    values = {**scenario("production"), "metrics": {"prometheusRule": monitored}}
    links = {
        rule["alert"]: rule["annotations"]["runbook_url"]
        for document in render(chart, values).of("PrometheusRule").values()
        for group in document["spec"]["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }
    assert links == {name: f"https://docs.example.com/runbooks/{name}.md" for name in links}
    assert "ImagoUploadsFailing" in links
