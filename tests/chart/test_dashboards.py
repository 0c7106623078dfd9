"""The dashboards are current, complete, and refer only to existing metrics."""

import json
import re
from typing import Any

import pytest

from hack import dashboards
from hack.dashboard_panels import KUBE_STATE_METRICS
from tests.support.series import existing_series

BOARDS: dict[str, dict[str, Any]] = {path.stem: json.loads(text) for path, text in dashboards.files().items()}
NAMES = sorted(BOARDS)


def _panels(name: str) -> list[dict[str, Any]]:
    return [panel for panel in BOARDS[name]["panels"] if panel["type"] != "row"]


def test_the_files_are_current() -> None:
    wanted = dashboards.files()
    stale = [path.name for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    assert not stale, "run `make dashboards`"
    assert set(dashboards.TARGET.glob("*")) == set(wanted), "files that are not generated"


def test_uids_and_titles_are_unique() -> None:
    for field in ("uid", "title"):
        assert len({board[field] for board in BOARDS.values()}) == len(BOARDS)
    # Grafana's limit.
    assert all(len(board["uid"]) <= 40 for board in BOARDS.values())


@pytest.mark.parametrize("name", NAMES)
def test_panels_have_unique_ids_and_do_not_overlap(name: str) -> None:
    panels = BOARDS[name]["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells


@pytest.mark.parametrize("name", NAMES)
def test_every_panel_has_a_description_a_unit_and_the_selected_data_source(name: str) -> None:
    variables = {variable["name"]: variable["type"] for variable in BOARDS[name]["templating"]["list"]}
    assert variables["datasource"] == "datasource"
    for panel in _panels(name):
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["targets"], panel["title"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"]), panel["title"]
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == "${datasource}", panel["title"]
            assert target["legendFormat"], panel["title"]
            used = set(re.findall(r"\$(\w+)", target["expr"])) - {"__rate_interval"}
            assert used <= set(variables), panel["title"]


@pytest.mark.parametrize("name", NAMES)
def test_every_metric_exists_or_its_panel_names_its_source(name: str) -> None:
    existing = existing_series()
    for panel in _panels(name):
        for target in panel["targets"]:
            metrics = re.findall(r"(\w+)\{", target["expr"])
            assert metrics, panel["title"]
            for metric in metrics:
                if KUBE_STATE_METRICS in panel["title"]:
                    assert metric.startswith("kube_"), panel["title"]
                else:
                    assert metric in existing, f"{panel['title']}: {metric}"


@pytest.mark.parametrize("name", NAMES)
def test_variables_query_existing_metrics(name: str) -> None:
    for variable in BOARDS[name]["templating"]["list"]:
        if variable["type"] == "query":
            found = re.fullmatch(r"label_values\((\w+), \w+\)", variable["definition"])
            assert found
            assert found[1] in existing_series()
