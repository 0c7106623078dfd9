"""The chart, rendered by Helm as a library, once for each scenario of charts/imago/ci."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from helm_python.chart import Chart

from tests.support.manifests import Rendered, render, scenario

CHART = Path("charts/imago")
SCENARIOS = sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*-values.yaml"))


@pytest.fixture(scope="session")
def chart() -> Iterator[Chart]:
    """The chart in the repository."""
    with Chart.load(CHART) as loaded:
        yield loaded


@pytest.fixture(scope="session", params=SCENARIOS)
def rendered(request: pytest.FixtureRequest, chart: Chart) -> Rendered:
    """The chart rendered with each scenario."""
    return render(chart, scenario(request.param))
