"""Requests to a running API from the command line."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from imago.bootstrap.data_dir import DEFAULT_CLIENT, SECRETS, read_json
from imago.cli.errors import CommandError
from imago.settings import Settings

_NOT_IMAGO = "the server at this URL is not Imago"


class ServerBusy(CommandError):
    """The API refused a request and names the seconds after which to try again."""

    def __init__(self, text: str, seconds: float) -> None:
        super().__init__(text)
        self.seconds = seconds


@dataclass(frozen=True, repr=False)
class Target:
    """An API and a key for it."""

    url: str
    key: str

    def session(self) -> aiohttp.ClientSession:
        """Return a session that sends the key; it limits single reads but not a whole request, as uploads are slow."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=120)
        return aiohttp.ClientSession(self.url, headers={"X-API-Key": self.key}, timeout=timeout)


def client_target(url: str | None, data_dir: Path) -> Target:
    """Return the API and a client's key: IMAGO_API_KEY, else that of `imago dev`'s default client."""
    saved = read_json(data_dir / DEFAULT_CLIENT)
    key = os.environ.get("IMAGO_API_KEY") or saved.get("api_key")
    if not key:
        raise CommandError("no key: set IMAGO_API_KEY, or --data-dir to the directory of a running `imago dev`")
    return Target(_base_url(url, saved), key)


def admin_target(url: str | None, data_dir: Path, settings: Settings) -> Target:
    """Return the API and the administrator's key: ADMIN_API_KEY, else that of `imago dev`."""
    configured = settings.admin_api_key.get_secret_value() if settings.admin_api_key else None
    key = configured or read_json(data_dir / SECRETS).get("ADMIN_API_KEY")
    if not key:
        raise CommandError("no key: set ADMIN_API_KEY, or --data-dir to the directory of a running `imago dev`")
    return Target(_base_url(url, read_json(data_dir / DEFAULT_CLIENT)), key)


async def request_json(session: aiohttp.ClientSession, method: str, path: str, **options: Any) -> dict[str, Any]:
    """Send a request and return its JSON; raise CommandError if it fails, ServerBusy if it can be tried again."""
    try:
        async with session.request(method, path, **options) as response:
            body = await response.json(content_type=None) if response.status != 204 else {}
    except (aiohttp.ClientError, TimeoutError) as error:
        raise CommandError(f"the API is unreachable ({type(error).__name__})") from error
    except json.JSONDecodeError as error:
        raise CommandError(_NOT_IMAGO) from error
    if not isinstance(body, dict):
        raise CommandError(_NOT_IMAGO)
    wait = response.headers.get("Retry-After", "")
    if response.status in (429, 503) and wait.isdecimal():
        raise ServerBusy(problem_line(response.status, body), float(wait))
    if response.status >= 400:
        raise CommandError(problem_line(response.status, body))
    return body


def problem_line(status: int, body: Any) -> str:
    """Return a problem document (RFC 9457) as one line."""
    problem = body if isinstance(body, dict) else {}
    detail = problem.get("detail", "request refused")
    return f"{problem.get('code', status)}: {detail}"


def _base_url(url: str | None, saved: dict[str, str]) -> str:
    found = url or saved.get("url")
    if not found:
        raise CommandError("no URL: set --url, or --data-dir to the directory of a running `imago dev`")
    return found.rstrip("/") + "/"
