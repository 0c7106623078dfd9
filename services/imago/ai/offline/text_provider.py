"""The offline text provider: summaries and task drafts from the sentences of a text."""

import asyncio

from imago.ai.offline.drafts import draft_task
from imago.ai.offline.summaries import summarize_text
from imago.core.ai_usage.text_tasks import Summary, TaskDraft, WebPage
from imago.core.text.languages import detect_language

SUMMARY_MODEL = "offline/extractive"

# The code of ISO 639-2 for an undetermined language.
UNDETERMINED = "und"


class OfflineTextProvider:
    """Summarizes and drafts without a network. It selects sentences, and can't translate or write them."""

    name = "offline"

    async def summarize(self, page: WebPage, *, language: str) -> Summary:
        """Return the most salient sentences of a page, in the page's language instead of the requested one."""
        # A page of 60,000 characters takes some tens of milliseconds, which would block the event loop.
        text = await asyncio.to_thread(summarize_text, page.text, title=page.title, language=page.language)
        return Summary(text, page.language or detect_language(page.text) or UNDETERMINED, SUMMARY_MODEL)

    async def draft_task(self, description: str, *, context: str) -> TaskDraft:
        """Return a draft in French if the description is in French, else in English."""
        return await asyncio.to_thread(draft_task, description, context=context)
