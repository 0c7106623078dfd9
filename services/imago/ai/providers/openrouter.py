"""OpenRouter, and whatever else speaks OpenAI's `/chat/completions`: Ollama, vLLM, LM Studio, LiteLLM."""

import asyncio
import base64
import math
from typing import Any

import aiohttp
import structlog
from opentelemetry.instrumentation.utils import suppress_http_instrumentation
from yarl import URL

from imago.ai.prompts import Prompt, Turn
from imago.ai.providers.base import OPENROUTER, Reply, model_name, tokens
from imago.ai.providers.failures import CallFailed, Outcome, failure_of_status
from imago.ai.providers.http import AnswerTooLarge, delay_until, provider_session, retry_after
from imago.core.ai_usage.model import TokenUsage

log = structlog.get_logger(__name__)

_ROLES = {"user": "user", "model": "assistant"}

# A call that costs more than this, in US dollars, is a mistake in the report.
_MAX_COST = 1000.0


class OpenRouterModel:
    """A model behind an OpenAI-compatible URL; only OpenRouter itself always needs a key."""

    provider = OPENROUTER

    def __init__(self, *, api_key: str | None, model: str, base_url: str, timeout: float) -> None:
        self.model = model
        self._url = URL(base_url.rstrip("/") + "/chat/completions")
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None

    async def ask(self, prompt: Prompt, *, timeout: float) -> Reply:
        """Have the conversation gone on with; raise CallFailed."""
        if self._session is None:
            self._session = provider_session(timeout=self._timeout)
        try:
            with suppress_http_instrumentation():
                async with self._session.post(
                    self._url,
                    json=await asyncio.to_thread(self._body, prompt),
                    headers=self._headers,
                    timeout=aiohttp.ClientTimeout(total=timeout),
                    # A redirect would turn the request into a GET, or take it where nobody means it to go.
                    allow_redirects=False,
                ) as response:
                    return self._reply(response, await response.json())
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise CallFailed(Outcome.UNAVAILABLE, type(error).__name__) from None
        except TimeoutError:
            raise CallFailed(Outcome.TIMEOUT, reached=True) from None
        except (aiohttp.ClientError, AnswerTooLarge, OSError) as error:
            # The connection broke after the request was sent: the model may have worked.
            raise CallFailed(Outcome.ERROR, type(error).__name__, reached=True) from None

    async def close(self) -> None:
        """Close connections."""
        if self._session is not None:
            await self._session.close()

    def _body(self, prompt: Prompt) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": "system", "content": prompt.instructions}, *map(_message, prompt.turns)],
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": prompt.answer.NAME, "strict": True, "schema": prompt.schema},
            },
            "max_tokens": prompt.max_tokens,
            "temperature": 0.2,
        }
        if is_openrouter(self._url):
            # Of several upstreams only those that hold to the schema; and the cost in the answer.
            body["provider"] = {"require_parameters": True}
            body["usage"] = {"include": True}
        return body

    def _reply(self, response: aiohttp.ClientResponse, data: Any) -> Reply:
        error = data.get("error") if isinstance(data, dict) else None
        if response.status != 200 or error:
            raise _failure(response, error if isinstance(error, dict) else {}, data)
        usage = _usage(data, asked=self.model)
        choice = _first(data)
        if isinstance(choice.get("error"), dict):
            # An upstream of OpenRouter's that failed in the middle of an answer.
            failed = _failure(response, choice["error"], data)
            failed.usage, failed.reached = usage, True
            raise failed
        message = choice.get("message")
        if not isinstance(message, dict):
            raise CallFailed(Outcome.INVALID, "no message", usage=usage, reached=True)
        if choice.get("finish_reason") == "content_filter" or message.get("refusal"):
            raise CallFailed(Outcome.BLOCKED, "content filter or refusal", usage=usage, reached=True)
        return Reply(_text(message.get("content")), usage)


def is_openrouter(url: URL) -> bool:
    """Tell whether the URL is OpenRouter's own."""
    host = url.host or ""
    return host == "openrouter.ai" or host.endswith(".openrouter.ai")


def _message(turn: Turn) -> dict[str, Any]:
    if turn.jpeg is None:
        return {"role": _ROLES[turn.role], "content": turn.text}
    data = base64.b64encode(turn.jpeg).decode()
    return {
        "role": _ROLES[turn.role],
        "content": [
            {"type": "text", "text": turn.text},
            {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{data}"}},
        ],
    }


def _first(data: Any) -> dict[str, Any]:
    choices = data.get("choices") if isinstance(data, dict) else None
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        return choices[0]
    raise CallFailed(Outcome.INVALID, "no choices", reached=True)


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        texts = (part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text")
        return "".join(text for text in texts if isinstance(text, str))
    return ""


def _usage(data: Any, *, asked: str) -> TokenUsage:
    counted = data.get("usage") if isinstance(data, dict) else None
    if not isinstance(counted, dict):
        counted = {}
    name = model_name(data.get("model") if isinstance(data, dict) else None, asked=asked)
    return TokenUsage(
        name, tokens(counted.get("prompt_tokens")), tokens(counted.get("completion_tokens")), _cost(counted.get("cost"))
    )


def _cost(reported: object) -> int | None:
    """Return OpenRouter's `usage.cost`, which is in US dollars, in millionths of one."""
    if isinstance(reported, bool) or not isinstance(reported, int | float):
        return None
    if not math.isfinite(reported) or not 0 <= reported <= _MAX_COST:
        return None
    return round(reported * 1_000_000)


def _failure(response: aiohttp.ClientResponse, error: dict[str, Any], data: Any) -> CallFailed:
    code = error.get("code")
    # With status 200 the error's own code is what counts.
    status = response.status if response.status != 200 else code if isinstance(code, int) else 502
    message = error.get("message") or (data.get("message") if isinstance(data, dict) else None)
    note = f"{status} {str(message or '')[:300]}"
    metadata = error.get("metadata")
    if not isinstance(metadata, dict):
        metadata = {}
    if status == 403 and ("flagged_input" in metadata or "reasons" in metadata):
        return CallFailed(Outcome.BLOCKED, note)
    if code in ("content_filter", "content_policy_violation"):
        return CallFailed(Outcome.BLOCKED, note)
    if code == "insufficient_quota":
        # OpenAI's way to say that the account is empty; it comes as a 429 and no waiting helps.
        return CallFailed(Outcome.MISCONFIGURED, note)
    delay = retry_after(response.headers)
    limits = metadata.get("headers")
    if delay is None and isinstance(limits, dict) and "X-RateLimit-Reset" in limits:
        delay = delay_until(limits["X-RateLimit-Reset"])
    return failure_of_status(status, note=note, retry_after=delay)
