"""Alert rules are what Prometheus takes, and name no metric that doesn't exist."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY

import imago.telemetry.metrics
import imago_operator.metrics

RULES = sorted((Path(__file__).parents[2] / "k8s" / "alerts").glob("*.yaml"))
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


def test_there_are_rules() -> None:
    assert len([rule for path in RULES for rule in _rules(path) if "alert" in rule]) > 20


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.stem)
def test_prometheus_takes_the_rules(path: Path) -> None:
    checked = subprocess.run([_promtool(), "check", "rules", path], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.stem)
def test_every_alert_says_how_bad_it_is_and_what_happens(path: Path) -> None:
    for rule in _rules(path):
        if "alert" in rule:
            assert rule["labels"]["severity"] in {"info", "warning", "critical"}, rule["alert"]
            assert rule["annotations"]["summary"], rule["alert"]
            assert rule["annotations"]["description"], rule["alert"]


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.stem)
def test_every_metric_of_a_rule_exists(path: Path) -> None:
    assert imago.telemetry.metrics.BUILD_INFO
    assert imago_operator.metrics.RECONCILES
    existing = {rule["record"] for each in RULES for rule in _rules(each) if "record" in rule}
    for family in REGISTRY.collect():
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}.get(family.type, ("",))
        existing |= {family.name + suffix for suffix in suffixes}
    for rule in _rules(path):
        named = set(re.findall(r"\b(?:imago[_:]|keda_)[a-z0-9_:]+", rule["expr"]))
        assert named, rule
        assert {name for name in named - existing if not FOREIGN.match(name)} == set(), rule
