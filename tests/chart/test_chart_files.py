"""The generated files of the chart are current."""

from hack import chart_files


def test_the_readme_the_schema_and_the_copies_are_current() -> None:
    stale = [path for path, text in chart_files.files().items() if not path.exists() or path.read_text() != text]
    assert not stale, "run `make chart`"
    assert not chart_files.obsolete_copies(), "run `make chart`"


def test_every_map_of_values_rejects_unknown_names() -> None:
    entries = list(chart_files.read_values((chart_files.CHART / "values.yaml").read_text()))
    open_ended = {
        ".".join(entry.path)
        for entry in entries
        if isinstance(entry.default, dict) and entry.path[-1] not in chart_files.FREE and "$ref" not in entry.schema
        if chart_files._schema(entry).get("additionalProperties") is not False
    }
    assert open_ended == {"settings", "workers.embed.model.volume"}
