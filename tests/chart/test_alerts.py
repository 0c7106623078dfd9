"""Alert rules are what Prometheus takes, fire when they should and not else, and name metrics and pages that exist."""

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
# Written by KEDA's operator.
FOREIGN = re.compile(r"keda_")


def _rules(path: Path) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]


def _promtool() -> str:
    """Return the program that `make setup` put into the cache, or the machine's own."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    found = shutil.which("promtool") or shutil.which("promtool", path=cache / "imago" / "prometheus")
    if found is None:
        pytest.skip("promtool is missing (`make setup` unpacks Debian's)")
    return found


def _existing() -> set[str]:
    """Return the names of all series of ours, recorded ones too."""
    return existing_series() | {rule["record"] for each in RULES for rule in _rules(each) if "record" in rule}


def _run_promtool(*arguments: str | Path) -> None:
    done = subprocess.run([_promtool(), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_are_rules() -> None:
    assert len([rule for path in RULES for rule in _rules(path) if "alert" in rule]) > 20


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.stem)
def test_prometheus_takes_the_rules(path: Path) -> None:
    _run_promtool("check", "rules", path)


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.stem)
def test_every_alert_says_how_bad_it_is_and_what_happens(path: Path) -> None:
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
def test_alerts_fire_when_they_should_and_say_what_is_wrong(path: Path) -> None:
    _run_promtool("test", "rules", path)


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.stem)
def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_is_silent(path: Path) -> None:
    cases = yaml.safe_load((Path(__file__).parent / "alerts" / path.name).read_text())["tests"]
    seen = {
        (expected["alertname"], bool(expected["exp_alerts"])) for case in cases for expected in case["alert_rule_test"]
    }
    alerts = {rule["alert"] for rule in _rules(path) if "alert" in rule}
    assert {name for name, _ in seen} == alerts
    assert {name for name, fires in seen if fires} == alerts, "some are never seen to fire"
    assert {name for name, fires in seen if not fires} == alerts, "some are never seen to be silent"


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    named = {
        rule["alert"]: rule["annotations"].get("runbook") for path in RULES for rule in _rules(path) if "alert" in rule
    }
    assert named == {name: f"docs/runbooks/{name}.md" for name in named}
    assert {path.stem for path in (ROOT / "docs" / "runbooks").glob("*.md")} == set(named)


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "runbooks").glob("*.md")), ids=lambda path: path.stem)
def test_a_runbook_says_what_to_look_at_and_to_do_with_metrics_and_pages_that_exist(path: Path) -> None:
    text = path.read_text()
    for heading in ("**What it means.**", "**How bad.**", "**Look**", "**Do**"):
        assert heading in text
    assert set(re.findall(r"\bimago_[a-z0-9_]+", text)) <= _existing()
    for link in re.findall(r"\]\(([^)#]+)", text):
        assert (path.parent / link).is_file(), link


def test_alerts_link_to_their_runbooks_where_these_are_served(chart: Chart) -> None:
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
