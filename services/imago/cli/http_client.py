"""Talking to a running API from the command line: where it is, with which key, and what its refusals say."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from imago.bootstrap.data_dir import DEFAULT_CLIENT, SECRETS
from imago.settings import Settings


class RemoteError(Exception):
    """What went wrong, in one line for a person."""


class Busy(RemoteError):
    """A refusal that passes by itself, after so many seconds."""

    def __init__(self, text: str, seconds: float) -> None:
        super().__init__(text)
        self.seconds = seconds


@dataclass(frozen=True, repr=False)
class Target:
    """An API and a key for it."""

    url: str
    key: str

    def session(self) -> aiohttp.ClientSession:
        """Return a session that sends the key; uploads take as long as they take."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=120)
        return aiohttp.ClientSession(self.url, headers={"X-API-Key": self.key}, timeout=timeout)


def client_target(url: str | None, data_dir: Path) -> Target:
    """Find the API and a client's key: IMAGO_API_KEY, else the default client of `imago dev`."""
    saved = _saved(data_dir / DEFAULT_CLIENT)
    key = os.environ.get("IMAGO_API_KEY") or saved.get("api_key")
    if not key:
        raise RemoteError("no key: set IMAGO_API_KEY, or name the --data-dir of a running `imago dev`")
    return Target(_base(url, saved), key)


def admin_target(url: str | None, data_dir: Path, settings: Settings) -> Target:
    """Find the API and the administrator's key: ADMIN_API_KEY, else that of `imago dev`."""
    configured = settings.admin_api_key.get_secret_value() if settings.admin_api_key else None
    key = configured or _saved(data_dir / SECRETS).get("ADMIN_API_KEY")
    if not key:
        raise RemoteError("no key: set ADMIN_API_KEY, or name the --data-dir of a running `imago dev`")
    return Target(_base(url, _saved(data_dir / DEFAULT_CLIENT)), key)


async def answer(session: aiohttp.ClientSession, method: str, path: str, **options: Any) -> dict[str, Any]:
    """Make a request and return its JSON; raise RemoteError with what the problem says, Busy where it names a wait."""
    try:
        async with session.request(method, path, **options) as response:
            body = await response.json(content_type=None) if response.status != 204 else {}
    except (aiohttp.ClientError, TimeoutError) as error:
        raise RemoteError(f"the API can't be reached ({type(error).__name__})") from error
    except json.JSONDecodeError as error:
        raise RemoteError("what answered is not Imago") from error
    if not isinstance(body, dict):
        raise RemoteError("what answered is not Imago")
    wait = response.headers.get("Retry-After", "")
    if response.status in (429, 503) and wait.isdecimal():
        raise Busy(refusal(response.status, body), float(wait))
    if response.status >= 400:
        raise RemoteError(refusal(response.status, body))
    return body


def refusal(status: int, body: Any) -> str:
    """Return what a problem document says, in a line."""
    problem = body if isinstance(body, dict) else {}
    return f"{problem.get('code', status)}: {problem.get('detail', 'refused')}"


def _base(url: str | None, saved: dict[str, str]) -> str:
    found = url or saved.get("url")
    if not found:
        raise RemoteError("no URL: give --url, or name the --data-dir of a running `imago dev`")
    return found.rstrip("/") + "/"


def _saved(path: Path) -> dict[str, str]:
    try:
        saved = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return saved if isinstance(saved, dict) else {}
