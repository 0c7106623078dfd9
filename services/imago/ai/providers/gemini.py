"""Gemini, by Google's SDK; its retries are off, because ours know the breaker and the budget."""

import importlib
from typing import Any

import aiohttp
import structlog
from opentelemetry.instrumentation.utils import suppress_http_instrumentation

from imago.ai.prompts import Prompt, Turn
from imago.ai.providers.base import GEMINI, Reply, model_name, tokens
from imago.ai.providers.failures import CallFailed, Outcome, failure_of_status
from imago.ai.providers.http import AnswerTooLarge, delay_of, provider_session, retry_after
from imago.core.ai_usage.model import TokenUsage

log = structlog.get_logger(__name__)

BASE_URL = "https://generativelanguage.googleapis.com/"

# The provider's reasons for giving no answer to this content, as `finishReason` or `promptFeedback.blockReason`.
_BLOCKS = frozenset(
    {
        "BLOCKLIST",
        "ESCALATION",
        "IMAGE_SAFETY",
        "JAILBREAK",
        "MODEL_ARMOR",
        "PROHIBITED_CONTENT",
        "RECITATION",
        "SAFETY",
        "SPII",
    }
)
# Reasons in the error's details that are about this server's account and not about the request.
_OURS = frozenset({"API_KEY_INVALID", "API_KEY_EXPIRED", "API_KEY_SERVICE_BLOCKED", "SERVICE_DISABLED"})


class GeminiModel:
    """A model of the Gemini API (not of Vertex AI)."""

    provider = GEMINI

    def __init__(self, *, api_key: str, model: str, base_url: str | None, timeout: float) -> None:
        # The import takes seconds, so it is done where Gemini is used, and not within the patience for an answer.
        importlib.import_module("google.genai.types")
        self.model = model
        self._api_key = api_key
        self._base_url = base_url or BASE_URL
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None
        self._client: Any = None

    async def ask(self, prompt: Prompt, *, timeout: float) -> Reply:
        """Have the conversation gone on with; raise CallFailed."""
        from google.genai import errors

        client = self._connected()

        try:
            with suppress_http_instrumentation():
                answer = await client.aio.models.generate_content(
                    model=self.model, contents=_contents(prompt), config=_config(prompt, timeout)
                )
        except errors.APIError as error:
            raise _failure(error) from None
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise CallFailed(Outcome.UNAVAILABLE, type(error).__name__) from None
        except TimeoutError:
            raise CallFailed(Outcome.TIMEOUT, reached=True) from None
        except (aiohttp.ClientError, AnswerTooLarge, OSError) as error:
            # The connection broke after the request was sent: the model may have worked.
            raise CallFailed(Outcome.ERROR, type(error).__name__, reached=True) from None
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
            # The SDK couldn't make sense of an answer with status 200.
            raise CallFailed(Outcome.INVALID, type(error).__name__, reached=True) from None
        return self._reply(answer)

    async def close(self) -> None:
        """Close connections."""
        if self._session is not None:
            await self._session.close()

    def _connected(self) -> Any:
        if self._client is None:
            self._session = provider_session(timeout=self._timeout)
            self._client = self._build(self._session)
        return self._client

    def _build(self, session: aiohttp.ClientSession) -> Any:
        from google import genai
        from google.genai import types

        options = types.HttpOptions(
            base_url=self._base_url,
            api_version="v1beta",
            aiohttp_client=session,
            # A redirect would take the key along to wherever it points.
            async_client_args={"allow_redirects": False},
        )
        # Said outright, because the SDK would take another service from the environment.
        return genai.Client(vertexai=False, api_key=self._api_key, http_options=options)

    def _reply(self, answer: Any) -> Reply:
        usage = _usage(answer, asked=self.model)
        feedback = getattr(answer, "prompt_feedback", None)
        blocked = _name(getattr(feedback, "block_reason", None))
        if blocked:
            raise CallFailed(Outcome.BLOCKED, blocked, usage=usage, reached=True)
        candidates = getattr(answer, "candidates", None) or []
        if not candidates:
            raise CallFailed(Outcome.INVALID, "no candidates", usage=usage, reached=True)
        finish = _name(candidates[0].finish_reason)
        if finish in _BLOCKS:
            raise CallFailed(Outcome.BLOCKED, finish, usage=usage, reached=True)
        parts = getattr(candidates[0].content, "parts", None) or []
        # What the model thinks by itself is no answer.
        text = "".join(part.text for part in parts if part.text and not part.thought)
        return Reply(text, usage)


def _config(prompt: Prompt, timeout: float) -> Any:
    from google.genai import types

    return types.GenerateContentConfig(
        system_instruction=prompt.instructions,
        response_mime_type="application/json",
        response_json_schema=prompt.schema,
        max_output_tokens=prompt.max_tokens,
        temperature=0.2,
        http_options=types.HttpOptions(
            timeout=max(1, int(timeout * 1000)), retry_options=types.HttpRetryOptions(attempts=1)
        ),
    )


def _contents(prompt: Prompt) -> list[Any]:
    from google.genai import types

    return [types.Content(role=turn.role, parts=_parts(turn)) for turn in prompt.turns]


def _parts(turn: Turn) -> list[Any]:
    from google.genai import types

    text = types.Part.from_text(text=turn.text)
    if turn.jpeg is None:
        return [text]
    return [text, types.Part.from_bytes(data=turn.jpeg, mime_type="image/jpeg")]


def _usage(answer: Any, *, asked: str) -> TokenUsage:
    counted = getattr(answer, "usage_metadata", None)
    name = model_name(getattr(answer, "model_version", None), asked=asked)
    # Thoughts are billed as output.
    return TokenUsage(
        name,
        tokens(getattr(counted, "prompt_token_count", None)),
        tokens(getattr(counted, "candidates_token_count", None))
        + tokens(getattr(counted, "thoughts_token_count", None)),
    )


def _name(reason: object) -> str:
    return str(getattr(reason, "value", None) or "")


def _failure(error: Any) -> CallFailed:
    details = _details(error.details)
    note = f"{error.code} {error.status or ''} {str(error.message or '')[:300]}"
    reasons = {str(item.get("reason")) for item in details}
    if reasons & _OURS or (error.code == 400 and error.status == "FAILED_PRECONDITION"):
        # The latter is an account without billing, or a region that isn't served.
        return CallFailed(Outcome.MISCONFIGURED, note)
    delay = None
    headers = getattr(error.response, "headers", None)
    if headers is not None:
        delay = retry_after(headers)
    for item in details:
        if str(item.get("@type", "")).endswith("google.rpc.RetryInfo"):
            delay = delay_of(str(item.get("retryDelay", "")).removesuffix("s")) or delay
    return failure_of_status(int(error.code), note=note, retry_after=delay)


def _details(body: Any) -> list[dict[str, Any]]:
    inner = body.get("error") if isinstance(body, dict) else None
    details = inner.get("details") if isinstance(inner, dict) else None
    return [item for item in details if isinstance(item, dict)] if isinstance(details, list) else []
