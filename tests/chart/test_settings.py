"""Every setting of Imago can be changed by a value of the chart: its own, or one in `settings`."""

import json
import re

import pytest
from helm_python.chart import Chart

from imago.settings import Settings
from tests.chart.conftest import CHART
from tests.support.manifests import containers, environment, render, scenario

# The settings that no value changes, and why.
FIXED = {
    "HOST": "a pod listens on all of its addresses",
    "PORT": "the Service has its own port",
    "STORAGE_DIR": "where the chart mounts the volume",
}
NAMES = json.loads((CHART / "values.schema.json").read_text())["properties"]["settings"]["propertyNames"]
SETTINGS = {name.upper() for name in Settings.model_fields}


def accepted(name: str) -> bool:
    """Return whether `settings` may contain a variable."""
    return bool(re.search(NAMES["pattern"], name)) and not re.search(NAMES["not"]["pattern"], name)


@pytest.fixture(scope="module")
def own(chart: Chart) -> set[str]:
    """The settings with their own value: those that a template names or renders, but for the fixed ones."""
    text = "\n".join(path.read_text() for path in (CHART / "templates").glob("*.*"))
    named = set(re.findall(r'(?:"name" "|name: )([A-Z][A-Z0-9_]+)\b', text))
    pods = [pod for name in ("production", "embedding") for _, pod in render(chart, scenario(name)).pods()]
    rendered = {name for pod in pods for container in containers(pod) for name in environment(container)}
    return (named | rendered) & SETTINGS - set(FIXED)


def test_every_setting_has_its_own_value_or_is_accepted_in_settings(own: set[str]) -> None:
    assert not {name for name in SETTINGS - set(FIXED) - own if not accepted(name)}
    assert set(FIXED) <= SETTINGS


def test_a_setting_that_has_its_own_value_or_is_fixed_is_refused_in_settings(own: set[str]) -> None:
    assert not {name for name in own | set(FIXED) if accepted(name)}
