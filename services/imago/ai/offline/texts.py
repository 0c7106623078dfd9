"""The offline text provider: summaries and drafts on this machine, out of the text's own sentences."""

import asyncio

from imago.ai.offline.drafting import draft
from imago.ai.offline.summarizing import summarize_text
from imago.core.ai_usage.text_tasks import Summary, TaskDraft, WebPage
from imago.core.languages import guess_language

SUMMARY_MODEL = "offline/extractive"

# ISO 639-2 for a language that nobody knows.
UNDETERMINED = "und"


class OfflineTextProvider:
    """Works on texts without any network; it can choose among sentences, but neither translate nor write them."""

    name = "offline"

    async def summarize(self, page: WebPage, *, language: str) -> Summary:
        """Return the page's weightiest sentences, in the page's own language whatever was asked for."""
        # Of 60,000 characters that takes some tens of milliseconds, which others need not wait for.
        text = await asyncio.to_thread(summarize_text, page.text, title=page.title, language=page.language)
        return Summary(text, page.language or guess_language(page.text) or UNDETERMINED, SUMMARY_MODEL)

    async def draft_task(self, description: str, *, context: str) -> TaskDraft:
        """Return a draft out of the description's and the context's sentences, in their language."""
        return await asyncio.to_thread(draft, description, context=context)
