"""Writes what the chart has from elsewhere: its README, the schema of its values, and copies of k8s/.

`values.yaml` is the only source of README.md and values.schema.json: the comment above a value is its description, and
a line `@schema {…}` in it is merged into its schema. `make chart` runs this; a test holds the files equal to `files()`.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "charts/imago"

# Folders of k8s/ that the chart ships, because Helm reads nothing outside of a chart.
COPIED = {"crds": "*.yaml", "dashboards": "*.json", "alerts": "*.yaml"}

# Maps whose keys are the user's own, whatever is in them by default.
FREE = frozenset(
    (
        "affinity",
        "annotations",
        "commonLabels",
        "labels",
        "nodeSelector",
        "podAnnotations",
        "podLabels",
        "podSecurityContext",
        "resources",
    )
)

DEFINITIONS = {
    "natsCredential": {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "existingSecret": {"type": "string"},
            "method": {"enum": ["password", "token", "creds"]},
            **{key: {"type": "string"} for key in ("userKey", "passwordKey", "tokenKey", "credsKey")},
        },
    }
}

HEAD = """\
# The chart of Imago

<!-- Written by `make chart` from values.yaml; change that. -->

How to install, upgrade and remove it is in [docs/install.md](../../docs/install.md). Needs Kubernetes 1.29, and KEDA
2.20 where `keda.enabled` is on.

## Scenarios

| values | what for |
|---|---|
"""


@dataclass(frozen=True)
class Entry:
    """One value: where it is, what it is by default, what is said of it, and what its schema has beside its type."""

    path: tuple[str, ...]
    node: yaml.Node
    default: Any
    description: str
    schema: dict[str, Any]

    @property
    def is_leaf(self) -> bool:
        """Whether it is shown in one row: all but the maps that are written over several lines."""
        node = self.node
        return not isinstance(node, yaml.MappingNode) or bool(node.flow_style) or self.path[-1] in FREE


def files(root: Path = ROOT) -> dict[Path, str]:
    """Return what is to be written, by path."""
    chart = root / "charts/imago"
    text = (chart / "values.yaml").read_text()
    entries = list(read_values(text))
    wanted = {
        chart / "README.md": HEAD + scenarios(chart) + values_table(entries),
        chart / "values.schema.json": json.dumps(values_schema(entries), indent=1) + "\n",
    }
    for folder, pattern in COPIED.items():
        wanted |= {
            chart / "files" / folder / source.name: source.read_text()
            for source in sorted((root / "k8s" / folder).glob(pattern))
        }
    return wanted


def stray(root: Path = ROOT) -> list[Path]:
    """Return the copies whose original is gone."""
    wanted = files(root)
    folders = (root / "charts/imago/files" / folder for folder in COPIED)
    return [path for folder in folders for path in sorted(folder.glob("*")) if path not in wanted]


def read_values(text: str) -> Iterator[Entry]:
    """Give the values in their order, each with the comment above it."""
    yield from _walk(yaml.compose(text, Loader=yaml.SafeLoader), text.splitlines(), ())


def _walk(node: yaml.Node | None, lines: list[str], path: tuple[str, ...]) -> Iterator[Entry]:
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        here = (*path, key.value)
        description, schema = _comment(lines, key.start_mark.line) if not node.flow_style else ("", {})
        default = yaml.safe_load(yaml.serialize(value))
        yield Entry(here, value, default, description, schema)
        if key.value not in FREE and "$ref" not in schema:
            yield from _walk(value, lines, here)


def _comment(lines: list[str], line: int) -> tuple[str, dict[str, Any]]:
    above: list[str] = []
    while line > 0 and lines[line - 1].lstrip().startswith("#"):
        line -= 1
        above.insert(0, lines[line].lstrip().removeprefix("#").strip())
    schema: dict[str, Any] = {}
    for text in [text for text in above if text.startswith("@schema ")]:
        schema |= json.loads(text.removeprefix("@schema "))
    return " ".join(text for text in above if text and not text.startswith("@schema ")), schema


def values_schema(entries: list[Entry]) -> dict[str, Any]:
    """Return the JSON schema of the values; what it doesn't name is refused."""
    root: dict[str, Any] = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "additionalProperties": False,
        # Helm hands it to every chart that is a part of another one.
        "properties": {"global": {"type": "object"}},
        "definitions": DEFINITIONS,
    }
    for entry in entries:
        parent = root
        for name in entry.path[:-1]:
            parent = parent["properties"][name]
        parent["properties"][entry.path[-1]] = _schema(entry)
    return root


def _schema(entry: Entry) -> dict[str, Any]:
    if "$ref" in entry.schema:
        return dict(entry.schema)
    kind = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    schema: dict[str, Any] = {"type": kind[type(entry.default)]} if entry.default is not None else {}
    if isinstance(entry.default, dict) and entry.default and entry.path[-1] not in FREE:
        schema |= {"additionalProperties": False, "properties": {}}
    if "enum" in entry.schema or "const" in entry.schema:
        schema.pop("type")
    return schema | entry.schema


def scenarios(chart: Path) -> str:
    """Return the rows of the scenarios, by the comments at their heads."""
    rows = []
    for path in sorted((chart / "ci").glob("*-values.yaml")):
        head: list[str] = []
        for line in path.read_text().splitlines():
            if not line.startswith("#"):
                break
            head.append(line.lstrip("# "))
        rows.append(f"| [{path.name}](ci/{path.name}) | {' '.join(head)} |\n")
    return "".join(rows)


def values_table(entries: list[Entry]) -> str:
    """Return the tables of the values, one for each part."""
    by_path = {entry.path: entry for entry in entries}
    shown = [
        entry
        for entry in entries
        if entry.is_leaf and _parent_is_open(entry, by_path) and not _as_in_exif(entry, by_path)
    ]
    text = [f"\n## General\n\n{_TABLE}", *(_row(entry, by_path) for entry in shown if len(entry.path) == 1)]
    for part in (entry for entry in entries if len(entry.path) == 1 and not entry.is_leaf):
        text += [f"\n## {part.path[0]}\n\n", part.description and f"{part.description}\n\n", _TABLE]
        text += [_row(entry, by_path) for entry in shown if len(entry.path) > 1 and entry.path[0] == part.path[0]]
    return "".join(text)


def _row(entry: Entry, by_path: dict[tuple[str, ...], Entry]) -> str:
    default = json.dumps(entry.default, ensure_ascii=False)
    description = " ".join(filter(None, (_inherited(entry, by_path), entry.description)))
    cells = (f"`{'.'.join(entry.path)}`", f"`{default}`", description)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


_TABLE = "| value | default | |\n|---|---|---|\n"


def _inherited(entry: Entry, by_path: dict[tuple[str, ...], Entry]) -> str:
    """The description of the map, in the row of the first value in it; sections have theirs above the table."""
    parent = by_path.get(entry.path[:-1])
    if parent is None or len(parent.path) == 1:
        return ""
    first = next(other for path, other in by_path.items() if path[:-1] == parent.path)
    return parent.description if first is entry else ""


def _parent_is_open(entry: Entry, by_path: dict[tuple[str, ...], Entry]) -> bool:
    return len(entry.path) == 1 or not by_path[entry.path[:-1]].is_leaf


def _as_in_exif(entry: Entry, by_path: dict[tuple[str, ...], Entry]) -> bool:
    """Whether it is what the exif worker has, too, so that one row says it for all."""
    if entry.path[:2] not in (("workers", "ocr"), ("workers", "vision")) or entry.description:
        return False
    twin = by_path.get(("workers", "exif", *entry.path[2:]))
    return twin is not None and twin.default == entry.default


def main() -> None:
    """Write what differs, and remove copies whose original is gone."""
    for path in stray():
        path.unlink()
        print(f"removed {path.relative_to(ROOT)}")
    for path, text in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            print(f"wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
