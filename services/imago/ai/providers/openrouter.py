"""OpenRouter, and other servers with OpenAI's `/chat/completions`: Ollama, vLLM, LM Studio, LiteLLM."""

import asyncio
import base64
import math
from typing import Any

import aiohttp
from yarl import URL

from imago.ai.prompts import Prompt, Turn
from imago.ai.provider_chain import is_openrouter
from imago.ai.providers.base import OPENROUTER, Reply, reported_model, reported_tokens
from imago.ai.providers.failures import CallFailed, CallOutcome, failure_of_status
from imago.ai.providers.http import ProviderSession, delay_until, provider_request, retry_delay
from imago.core.ai_usage.model import TokenUsage

_ROLES = {"user": "user", "model": "assistant"}

# A higher reported cost of one call, in US dollars, is an error.
_MAX_COST = 1000.0


class OpenRouterModel:
    """A model at an OpenAI-compatible URL. Only OpenRouter itself always needs a key."""

    provider = OPENROUTER

    def __init__(self, *, api_key: str | None, model: str, base_url: str, timeout: float) -> None:
        self.model = model
        self._url = URL(base_url.rstrip("/") + "/chat/completions")
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._session = ProviderSession(timeout=timeout)

    async def generate(self, prompt: Prompt, *, timeout: float) -> Reply:
        """Return the model's reply to a prompt; raise CallFailed."""
        body = await asyncio.to_thread(self._body, prompt)
        with provider_request():
            async with self._session.get().post(
                self._url,
                json=body,
                headers=self._headers,
                timeout=aiohttp.ClientTimeout(total=timeout),
                # A redirect would change the request to GET, or send the key to another server.
                allow_redirects=False,
            ) as response:
                return self._reply(response, await response.json())

    async def close(self) -> None:
        """Close connections."""
        await self._session.close()

    def _body(self, prompt: Prompt) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": "system", "content": prompt.instructions}, *map(_message, prompt.turns)],
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": prompt.answer_type.NAME, "strict": True, "schema": prompt.schema},
            },
            "max_tokens": prompt.max_tokens,
            "temperature": 0.2,
        }
        if is_openrouter(self._url):
            # Route only to upstreams that support the schema, and report the cost.
            body["provider"] = {"require_parameters": True}
            body["usage"] = {"include": True}
        return body

    def _reply(self, response: aiohttp.ClientResponse, data: Any) -> Reply:
        error = data.get("error") if isinstance(data, dict) else None
        if response.status != 200 or error:
            raise _failure(response, error if isinstance(error, dict) else {}, data)
        usage = _usage(data, model=self.model)
        choice = _first_choice(data)
        if isinstance(choice.get("error"), dict):
            # An upstream of OpenRouter failed while it was generating.
            failed = _failure(response, choice["error"], data)
            failed.usage, failed.reached = usage, True
            raise failed
        message = choice.get("message")
        if not isinstance(message, dict):
            raise CallFailed(CallOutcome.INVALID, "no message", usage=usage, reached=True)
        if choice.get("finish_reason") == "content_filter" or message.get("refusal"):
            raise CallFailed(CallOutcome.BLOCKED, "content filter or refusal", usage=usage, reached=True)
        return Reply(_text(message.get("content")), usage)


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


def _first_choice(data: Any) -> dict[str, Any]:
    choices = data.get("choices") if isinstance(data, dict) else None
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        return choices[0]
    raise CallFailed(CallOutcome.INVALID, "no choices", reached=True)


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        texts = (part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text")
        return "".join(text for text in texts if isinstance(text, str))
    return ""


def _usage(data: Any, *, model: str) -> TokenUsage:
    usage = data.get("usage") if isinstance(data, dict) else None
    if not isinstance(usage, dict):
        usage = {}
    return TokenUsage(
        reported_model(data.get("model") if isinstance(data, dict) else None, default=model),
        reported_tokens(usage.get("prompt_tokens")),
        reported_tokens(usage.get("completion_tokens")),
        _cost(usage.get("cost")),
    )


def _cost(dollars: object) -> int | None:
    """Return OpenRouter's `usage.cost`, which is in US dollars, in millionths of a dollar."""
    if isinstance(dollars, bool) or not isinstance(dollars, int | float):
        return None
    if not math.isfinite(dollars) or not 0 <= dollars <= _MAX_COST:
        return None
    return round(dollars * 1_000_000)


def _failure(response: aiohttp.ClientResponse, error: dict[str, Any], data: Any) -> CallFailed:
    code = error.get("code")
    # A response with status 200 may contain an error with its own code.
    status = response.status if response.status != 200 else code if isinstance(code, int) else 502
    message = error.get("message") or (data.get("message") if isinstance(data, dict) else None)
    note = f"{status} {str(message or '')[:300]}"
    metadata = error.get("metadata")
    if not isinstance(metadata, dict):
        metadata = {}
    if status == 403 and ("flagged_input" in metadata or "reasons" in metadata):
        return CallFailed(CallOutcome.BLOCKED, note)
    if code in ("content_filter", "content_policy_violation"):
        return CallFailed(CallOutcome.BLOCKED, note)
    if code == "insufficient_quota":
        # OpenAI's code of an account without credit. Its status is 429, but waiting doesn't help.
        return CallFailed(CallOutcome.MISCONFIGURED, note)
    delay = retry_delay(response.headers)
    limits = metadata.get("headers")
    if delay is None and isinstance(limits, dict) and "X-RateLimit-Reset" in limits:
        delay = delay_until(limits["X-RateLimit-Reset"])
    return failure_of_status(status, note=note, retry_after=delay)
