"""Read pages of the public web: fetch them in this process, and extract their text in a child process."""

import asyncio
import tempfile
from collections.abc import Hashable
from pathlib import Path

import structlog

from imago.core.ai_usage.text_tasks import WebPage
from imago.core.errors import NoText, Unavailable
from imago.core.isolation import IsolatedTasks
from imago.core.jobs.failures import StageFailure
from imago.runtime.shares import FairShares, ShareExhausted
from imago.web.fetch import FetchedPage, FetchLimits, PageFetcher

log = structlog.get_logger(__name__)

# The pool of child processes must have this task.
EXTRACT_TASK = "extract_page"
EXTRACT_FUNCTION = "imago.web.extract:extract_page"

# What a page takes at most while it is fetched and waits for its reader: its parts, and the whole made of them.
PAGE_BYTES = 2 * FetchLimits().size

# Ordinary pages take well under a second, and the largest a few seconds.
EXTRACT_SECONDS = 10
_RETRY_SECONDS = 5


class WebPages:
    """Reads pages of the public web by their URLs."""

    def __init__(self, fetcher: PageFetcher, tasks: IsolatedTasks, *, readers: int = 2) -> None:
        """`readers` is the number of child processes."""
        self._fetcher = fetcher
        self._tasks = tasks
        self._readers = FairShares(readers)

    async def read(self, url: str, *, client: Hashable = None) -> WebPage:
        """Fetch a page and extract its text; raise the errors of `PageFetcher.fetch`, NoText, or Unavailable.

        Each client has a fair share of the fetches and of the child processes.
        """
        fetched = await self._fetcher.fetch(url, holder=client)
        try:
            # Twice the time of one page, because this one may have to wait for a child process.
            async with (
                asyncio.timeout(2 * EXTRACT_SECONDS),
                self._readers.hold(client, timeout=2 * EXTRACT_SECONDS),
            ):
                return await self._extract(fetched)
        except (TimeoutError, ShareExhausted):
            raise Unavailable("Too many pages are being read.", retry_after=_RETRY_SECONDS) from None

    async def close(self) -> None:
        """Close the fetcher. The caller closes the child processes."""
        await self._fetcher.close()

    async def _extract(self, fetched: FetchedPage) -> WebPage:
        with tempfile.TemporaryDirectory(prefix="imago-") as directory:
            source = Path(directory) / "page"
            await asyncio.to_thread(source.write_bytes, fetched.body)
            arguments = {"content_type": fetched.content_type, "charset": fetched.charset}
            try:
                extracted = await self._tasks.run(
                    EXTRACT_TASK, arguments, timeout=EXTRACT_SECONDS, reads={"source": source}
                )
            except StageFailure as failure:
                log.info("page.extraction-failed", code=failure.code)
                raise NoText("The page's text can't be extracted within the limits.") from None
        if not extracted["text"]:
            raise NoText("The page has no text.")
        return WebPage(
            url=fetched.url, title=extracted["title"], text=extracted["text"], language=extracted["language"]
        )
