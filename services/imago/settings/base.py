"""The base class of the groups of settings, and the types of their values."""

import os
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

_YEAR = 366 * 24 * 3600.0

# These are mixed into digests and signatures as they are: a change of any character would invalidate issued keys.
_RAW = frozenset({"jwt_secret_key", "api_key_pepper", "signed_url_secret"})


def _split(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _http_url(value: str) -> str:
    return check_url(value, ("http", "https"))


def _file(value: Path) -> Path:
    if not os.path.isfile(value):  # noqa: PTH113  # `Path.is_file` raises OSError for a name that is too long.
        raise ValueError("there is no such file")
    return value


def _directory(value: Path) -> Path:
    if not os.path.isdir(value):  # noqa: PTH112
        raise ValueError("there is no such directory")
    return value


def _ascii(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().isascii():
        raise ValueError("must be ASCII")
    return value


def check_url(value: str, schemes: tuple[str, ...]) -> str:
    """Return a URL with one of the schemes and a host; raise ValueError."""
    try:
        parts = urlsplit(value)
        wrong = parts.scheme not in schemes or not parts.hostname or parts.port == 0
    except ValueError:
        wrong = True
    if wrong or any(char.isspace() for char in value):
        raise ValueError(f"must be a URL such as {schemes[0]}://host:port")
    return value


CommaList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]

# Values beyond these bounds overflow timers, dates or resource limits.
Seconds = Annotated[float, Field(gt=0, le=_YEAR, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Megabytes = Annotated[int, Field(ge=1, le=2**20)]

HttpUrl = Annotated[str, AfterValidator(_http_url)]

ExistingFile = Annotated[Path, AfterValidator(_file)]
ExistingDirectory = Annotated[Path, AfterValidator(_directory)]

# A secret that is sent in a header.
HeaderSecret = Annotated[SecretStr, AfterValidator(_ascii)]

LowerCase = BeforeValidator(_lower)


class SettingsGroup(BaseSettings):
    """The settings of one concern."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True, populate_by_name=True)

    @field_validator("*", mode="before")
    @classmethod
    def _one_line(cls, value: Any, info: ValidationInfo) -> Any:
        """Remove surrounding white space, such as the newline at the end of a mounted secret."""
        if not isinstance(value, str | SecretStr) or info.field_name in _RAW:
            return value
        text = (value.get_secret_value() if isinstance(value, SecretStr) else value).strip()
        if any(ord(char) < 0x20 or ord(char) == 0x7F for char in text):
            raise ValueError("must not contain control characters")
        return text
