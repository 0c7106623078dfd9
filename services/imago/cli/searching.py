"""`imago search`."""

import json

import click
from rich.console import Console
from rich.table import Table

from imago.cli.http_client import Target, request_json


async def search_images(target: Target, query: dict[str, str], *, as_json: bool) -> None:
    """Print the matching images."""
    async with target.session() as session:
        page = await request_json(session, "GET", "images", params=query)
    if as_json:
        click.echo(json.dumps(page["items"], ensure_ascii=False, indent=2))
        return
    table = Table("id", "name", "match", "taken", "camera", "tags", "description")
    for image in page["items"]:
        camera = (image["exif"] or {}).get("camera") or {}
        ai = image["ai"] or {}
        table.add_row(
            str(image["id"]),
            image["original_name"],
            # Absent where nothing was searched for.
            image.get("match") or "",
            (camera.get("taken_at") or "")[:16].replace("T", " "),
            camera.get("model") or "",
            ", ".join(ai.get("tags", [])),
            (ai.get("description") or "")[:80],
        )
    Console().print(table)
    if page["next_cursor"]:
        click.echo("More images match; narrow the search or raise --limit.", err=True)
