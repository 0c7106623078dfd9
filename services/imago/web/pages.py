"""Pages of the public web, fetched and read."""

import asyncio
import tempfile
from pathlib import Path

import structlog

from imago.core.ai_usage.text_tasks import WebPage
from imago.core.errors import NoText, Unavailable
from imago.core.isolation import IsolatedTasks
from imago.core.jobs.failures import StageFailure
from imago.web.fetch import Fetched, Fetcher

log = structlog.get_logger(__name__)

# What the pool of child processes must know of `run`'s task.
READING_TASK = "read_page"
READING_FUNCTION = "imago.web.extract:read_page"

# Ordinary pages take well under a second, the largest some seconds.
READING_SECONDS = 10
_RETRY_SECONDS = 5


class WebPages:
    """Gives pages by their URLs; what was asked for stays in this process, HTML is parsed in another."""

    def __init__(self, fetcher: Fetcher, tasks: IsolatedTasks) -> None:
        self._fetcher = fetcher
        self._tasks = tasks

    async def read(self, url: str) -> WebPage:
        """Fetch and read a page; raise what `Fetcher.fetch` raises, NoText, or Unavailable."""
        fetched = await self._fetcher.fetch(url)
        try:
            # Twice the time of one page: before this one there may be others in the children's hands.
            async with asyncio.timeout(2 * READING_SECONDS):
                return await self._read(fetched)
        except TimeoutError:
            raise Unavailable("Too many pages are being read at this moment.", retry_after=_RETRY_SECONDS) from None

    async def close(self) -> None:
        """Close the fetcher; the pool is its owner's."""
        await self._fetcher.close()

    async def _read(self, fetched: Fetched) -> WebPage:
        with tempfile.TemporaryDirectory(prefix="imago-") as directory:
            source = Path(directory) / "page"
            await asyncio.to_thread(source.write_bytes, fetched.body)
            arguments = {
                "source": str(source),
                "content_type": fetched.content_type,
                "charset": fetched.charset,
            }
            try:
                found = await self._tasks.run(READING_TASK, arguments, timeout=READING_SECONDS)
            except StageFailure as failure:
                log.info("a page could not be read", code=failure.code)
                raise NoText("The page is built so that its text can't be found within the limits.") from None
        if not found["text"]:
            raise NoText("The page holds no text.")
        return WebPage(url=fetched.url, title=found["title"], text=found["text"], language=found["language"])
