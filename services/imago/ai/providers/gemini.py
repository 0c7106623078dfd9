"""The Gemini API by Google's SDK, without the SDK's retries: `provider_client` retries within breaker and budget."""

import importlib
from typing import Any

from imago.ai.prompts import Prompt, Turn
from imago.ai.providers.base import GEMINI, Reply, reported_model, reported_tokens
from imago.ai.providers.failures import CallFailed, CallOutcome, failure_of_status
from imago.ai.providers.http import ProviderSession, parse_delay, provider_request, retry_delay
from imago.core.ai_usage.model import TokenUsage

BASE_URL = "https://generativelanguage.googleapis.com/"

# The values of `finishReason` and `promptFeedback.blockReason` for content that the provider declines.
_BLOCK_REASONS = frozenset(
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
# Reasons in an error's details that concern this server's account and not the request.
_ACCOUNT_REASONS = frozenset({"API_KEY_INVALID", "API_KEY_EXPIRED", "API_KEY_SERVICE_BLOCKED", "SERVICE_DISABLED"})


class GeminiModel:
    """A model of the Gemini API (not of Vertex AI)."""

    provider = GEMINI

    def __init__(self, *, api_key: str, model: str, base_url: str | None, timeout: float) -> None:
        # The import takes seconds, so it is not done within the time-out of the first call.
        importlib.import_module("google.genai.types")
        self.model = model
        self._api_key = api_key
        self._base_url = base_url or BASE_URL
        self._session = ProviderSession(timeout=timeout)
        self._client: Any = None

    async def generate(self, prompt: Prompt, *, timeout: float) -> Reply:
        """Return the model's reply to a prompt; raise CallFailed."""
        from google.genai import errors

        client = self._connected_client()
        try:
            with provider_request():
                response = await client.aio.models.generate_content(
                    model=self.model, contents=_contents(prompt), config=_config(prompt, timeout)
                )
        except errors.APIError as error:
            raise _failure(error) from None
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
            # The SDK failed to parse a response with status 200.
            raise CallFailed(CallOutcome.INVALID, type(error).__name__, reached=True) from None
        return self._reply(response)

    async def close(self) -> None:
        """Close connections."""
        await self._session.close()

    def _connected_client(self) -> Any:
        if self._client is None:
            from google import genai
            from google.genai import types

            options = types.HttpOptions(
                base_url=self._base_url,
                api_version="v1beta",
                aiohttp_client=self._session.get(),
                # A redirect would send the key to another server.
                async_client_args={"allow_redirects": False},
            )
            # `vertexai` is explicit, because the environment could select Vertex AI.
            self._client = genai.Client(vertexai=False, api_key=self._api_key, http_options=options)
        return self._client

    def _reply(self, response: Any) -> Reply:
        usage = _usage(response, model=self.model)
        feedback = getattr(response, "prompt_feedback", None)
        block_reason = _reason(getattr(feedback, "block_reason", None))
        if block_reason:
            raise CallFailed(CallOutcome.BLOCKED, block_reason, usage=usage, reached=True)
        candidates = getattr(response, "candidates", None) or []
        if not candidates:
            raise CallFailed(CallOutcome.INVALID, "no candidates", usage=usage, reached=True)
        finish_reason = _reason(candidates[0].finish_reason)
        if finish_reason in _BLOCK_REASONS:
            raise CallFailed(CallOutcome.BLOCKED, finish_reason, usage=usage, reached=True)
        parts = getattr(candidates[0].content, "parts", None) or []
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


def _usage(response: Any, *, model: str) -> TokenUsage:
    usage = getattr(response, "usage_metadata", None)
    # Thoughts are billed as output.
    output_tokens = ("candidates_token_count", "thoughts_token_count")
    return TokenUsage(
        reported_model(getattr(response, "model_version", None), default=model),
        reported_tokens(getattr(usage, "prompt_token_count", None)),
        sum(reported_tokens(getattr(usage, name, None)) for name in output_tokens),
    )


def _reason(reason: object) -> str:
    return str(getattr(reason, "value", None) or "")


def _failure(error: Any) -> CallFailed:
    details = _details(error.details)
    note = f"{error.code} {error.status or ''} {str(error.message or '')[:300]}"
    reasons = {str(item.get("reason")) for item in details}
    # FAILED_PRECONDITION is an account without billing, or a region that is not served.
    if reasons & _ACCOUNT_REASONS or (error.code == 400 and error.status == "FAILED_PRECONDITION"):
        return CallFailed(CallOutcome.MISCONFIGURED, note)
    delay = None
    headers = getattr(error.response, "headers", None)
    if headers is not None:
        delay = retry_delay(headers)
    for item in details:
        if str(item.get("@type", "")).endswith("google.rpc.RetryInfo"):
            delay = parse_delay(str(item.get("retryDelay", "")).removesuffix("s")) or delay
    return failure_of_status(int(error.code), note=note, retry_after=delay)


def _details(body: Any) -> list[dict[str, Any]]:
    inner = body.get("error") if isinstance(body, dict) else None
    details = inner.get("details") if isinstance(inner, dict) else None
    return [item for item in details if isinstance(item, dict)] if isinstance(details, list) else []
