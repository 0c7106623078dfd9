"""`imago watch`: a client's events as they happen, across restarts of the API."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import click

from imago.cli.errors import CommandError
from imago.cli.http_client import Target, problem_line

# The API sends a comment every 15 seconds; a stream without data for three such intervals is dead.
SILENCE_SECONDS = 45.0
RETRY_SECONDS = 2.0


@dataclass(frozen=True)
class ServerEvent:
    """One event of a stream; `data` is its JSON."""

    id: str
    name: str
    data: dict[str, Any]


async def watch_events(target: Target, *, since: str | None, as_json: bool) -> None:
    """Print events until cancelled, reconnecting after a broken stream; raise CommandError if the API refuses."""
    last = since
    async with target.session() as session:
        while True:
            try:
                async for event in stream_events(session, after=last):
                    last = event.id
                    _print_event(event, as_json=as_json)
            except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
                click.echo(f"stream interrupted ({type(error).__name__}), reconnecting", err=True)
            await asyncio.sleep(RETRY_SECONDS)


async def stream_events(session: aiohttp.ClientSession, *, after: str | None = None) -> AsyncIterator[ServerEvent]:
    """Yield the events of one stream until it ends; raise CommandError if the API refuses it."""
    headers = {"Accept": "text/event-stream", **({"Last-Event-ID": after} if after else {})}
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=SILENCE_SECONDS)
    async with session.get("images/events", headers=headers, timeout=timeout) as response:
        if response.status == 503:
            raise aiohttp.ClientConnectionError
        if response.status != 200:
            raise CommandError(problem_line(response.status, await response.json(content_type=None)))
        fields: dict[str, str] = {}
        async for line in response.content:
            text = line.decode().rstrip("\n")
            if text:
                name, _, value = text.partition(":")
                fields[name] = value.removeprefix(" ")
            elif "data" in fields:
                yield ServerEvent(fields.get("id", ""), fields.get("event", "message"), json.loads(fields["data"]))
                fields = {}
            else:
                fields = {}


def _print_event(event: ServerEvent, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"id": event.id, "event": event.name, **event.data}, ensure_ascii=False))
        return
    data = event.data
    if event.name == "reset":
        click.echo("-- some events were missed: read the images again --")
        return
    stage = f" {data['stage']}" if data.get("stage") else ""
    run = f" (run {data['run']})" if (data.get("run") or 1) > 1 else ""
    click.echo(f"{data['at'][11:23]}  {event.name:<15} image {data['image_id']}{stage}{run} {data.get('status') or ''}")
