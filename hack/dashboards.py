"""Generate the Grafana dashboards in k8s/dashboards from the panels of `dashboard_panels`.

`make dashboards` runs this; a test compares the files with `files()`, and another runs every query against a real
Prometheus. The dashboards also work without a namespace label (outside of Kubernetes): "All" matches its absence.
"""

import json
from pathlib import Path
from typing import Any

from hack.dashboard_panels import DASHBOARDS, Dashboard, Panel

TARGET = Path(__file__).resolve().parent.parent / "k8s/dashboards"

_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
_GRID_WIDTH = 24
_PANEL_WIDTH = 8
_PANEL_HEIGHT = 8


def files() -> dict[Path, str]:
    """Return the contents of the files, by path."""
    return {TARGET / f"{board.name}.json": json.dumps(_grafana(board), indent=1) + "\n" for board in DASHBOARDS}


def _grafana(board: Dashboard) -> dict[str, Any]:
    variables = [
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
        _variable("namespace", "Namespace", "imago_build_info"),
    ]
    if board.by_client:
        variables.append(_variable("client", "Client", "imago_client_open_stages"))
    return {
        "uid": f"imago-{board.name}",
        "title": board.title,
        "description": board.description,
        "tags": ["imago"],
        "schemaVersion": 39,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": variables},
        "links": [{"type": "dashboards", "title": "Imago", "tags": ["imago"], "asDropdown": True, "keepTime": True}],
        "panels": _panels(board),
    }


def _variable(name: str, label: str, metric: str) -> dict[str, Any]:
    query = f"label_values({metric}, {name})"
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": _DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
    }


def _panels(board: Dashboard) -> list[dict[str, Any]]:
    shown: list[dict[str, Any]] = []
    top = 0
    for title, panels in board.rows.items():
        place = {"x": 0, "y": top, "w": _GRID_WIDTH, "h": 1}
        shown.append({"id": len(shown) + 1, "type": "row", "title": title, "collapsed": False, "gridPos": place})
        top, left = top + 1, 0
        for panel in panels:
            if left + _PANEL_WIDTH > _GRID_WIDTH:
                top, left = top + _PANEL_HEIGHT, 0
            place = {"x": left, "y": top, "w": _PANEL_WIDTH, "h": _PANEL_HEIGHT}
            shown.append(_panel(panel, len(shown) + 1, place))
            left += _PANEL_WIDTH
        top += _PANEL_HEIGHT
    return shown


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    custom = {"fillOpacity": 20, "stacking": {"mode": "normal"}} if panel.stack else {"fillOpacity": 0}
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.description,
        "datasource": _DATASOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0, "custom": custom}, "overrides": []},
        "options": {"tooltip": {"mode": "multi", "sort": "desc"}, "legend": {"displayMode": "list"}},
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": _DATASOURCE, "expr": query, "legendFormat": legend}
            for index, (query, legend) in enumerate(panel.queries)
        ],
    }


def main() -> None:
    """Write all dashboards."""
    TARGET.mkdir(parents=True, exist_ok=True)
    for path, text in files().items():
        path.write_text(text)


if __name__ == "__main__":
    main()
