"""A client whose pages or names are slow does not keep others from theirs."""

import asyncio
from collections.abc import Sequence
from ipaddress import ip_address

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from imago.core.errors import Unavailable
from imago.web.fetch import FetchLimits, PageFetcher
from tests.support.ssrf import SITE, resolver


async def settled(tasks: Sequence["asyncio.Task[object]"], count: int) -> None:
    """Wait until this many tasks have ended."""
    async with asyncio.timeout(20):
        while sum(task.done() for task in tasks) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_slow_pages_of_one_client_leave_room_for_others() -> None:
    release = asyncio.Event()

    async def page(request: web.Request) -> web.Response:
        if request.path == "/slow":
            await release.wait()
        return web.Response(text="a page", content_type="text/plain")

    app = web.Application()
    app.router.add_get("/{page}", page)
    async with TestServer(app, host=SITE) as server:
        site = f"http://site.example:{server.port}"
        fetcher = PageFetcher(resolve=resolver({}, default=[SITE]), allow={ip_address(SITE)}, ports={server.port or 0})
        slow = [asyncio.create_task(fetcher.fetch(f"{site}/slow", holder="greedy")) for _ in range(60)]
        await settled(slow, 60 - 21)
        for other in ("one", "two", "three"):
            assert (await fetcher.fetch(f"{site}/quick", holder=other)).body == b"a page"
        release.set()
        outcomes = await asyncio.gather(*slow, return_exceptions=True)
    refused = [error for error in outcomes if isinstance(error, Unavailable)]
    assert len(refused) == 60 - 21, "two thirds of 32 fetches are the client's"
    assert "by this client" in refused[0].detail


async def test_slow_names_of_one_client_leave_room_for_others() -> None:
    release, looked_up = asyncio.Event(), []

    async def resolve(host: str) -> Sequence[str]:
        looked_up.append(host)
        if host.startswith("slow"):
            await release.wait()
        return ["10.0.0.1"]

    fetcher = PageFetcher(resolve=resolve, limits=FetchLimits(seconds=0.5))
    # Beyond the end of their fetches, because a thread can't be interrupted.
    slow = [fetcher.fetch(f"http://slow{number}.example/", holder="greedy") for number in range(20)]
    await asyncio.gather(*slow, return_exceptions=True)
    assert len(looked_up) == 5, "two thirds of 8 threads are the client's"
    with pytest.raises(Exception, match="public internet"):
        await fetcher.fetch("http://quick.example/", holder="other")
    assert looked_up[-1] == "quick.example"
    release.set()
