"""Requests of the administrator's commands."""

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from imago.settings import load_settings

if TYPE_CHECKING:
    from imago.cli.http_client import Target

_PAGE = 200


def target_of(url: str | None, data_dir: Path) -> "Target":
    """Return the API and the administrator's key."""
    from imago.cli.http_client import admin_target

    return admin_target(url, data_dir, load_settings())


def send(target: "Target", method: str, path: str, **options: Any) -> Any:
    """Send a request and return its JSON; raise CommandError."""
    from imago.cli.http_client import request_json

    async def request() -> dict[str, Any]:
        async with target.session() as session:
            return await request_json(session, method, path, **options)

    return asyncio.run(request())


def list_items(target: "Target", path: str) -> list[dict[str, Any]]:
    """Return the items of all pages of a list."""
    found: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        page = send(target, "GET", path, params={"limit": str(_PAGE), **cursor})
        found += page["items"]
        if page["next_cursor"] is None:
            return found
        cursor = {"cursor": page["next_cursor"]}


def print_json(data: Any) -> None:
    """Print data for people and scripts."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False))
