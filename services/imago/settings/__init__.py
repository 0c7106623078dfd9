"""Settings: every environment variable that Imago reads, in one frozen model made of one class per concern.

`.env.example` lists all of them. Durations are in seconds and sizes in bytes unless a name says otherwise (`…_MB` is
2^20 bytes).
"""

from collections.abc import Iterable
from typing import Self

from pydantic import ValidationError, model_validator
from pydantic_settings import SettingsError

from imago.core.jobs.stages import Stage
from imago.runtime.startup import StartupError
from imago.settings.ai import AiSettings
from imago.settings.auth import AuthSettings
from imago.settings.database import DatabaseSettings
from imago.settings.environment import load_environment
from imago.settings.http import HttpSettings
from imago.settings.maintenance import MaintenanceSettings
from imago.settings.nats import NatsSettings
from imago.settings.stages import StageSettings
from imago.settings.storage import StorageSettings
from imago.settings.telemetry import TelemetrySettings
from imago.settings.uploads import UploadSettings
from imago.settings.worker import WorkerSettings


class Settings(
    TelemetrySettings,
    AuthSettings,
    DatabaseSettings,
    NatsSettings,
    StorageSettings,
    HttpSettings,
    UploadSettings,
    StageSettings,
    AiSettings,
    WorkerSettings,
    MaintenanceSettings,
):
    """The configuration of one process; `Settings()` reads the environment, tests pass arguments."""

    def stage_timeout(self, stage: Stage) -> float:
        """Return the time limit of one attempt of a stage, in seconds."""
        timeout: float = getattr(self, f"{stage}_timeout")
        if stage is Stage.OCR and self.ocr_fallback == "ai":
            # A provider that reads the page again takes at most two of its timeouts: one call and one retry.
            return timeout + 2 * self.ai_timeout
        return timeout

    @model_validator(mode="after")
    def _vision_outlasts_the_provider(self) -> Self:
        if self.provider != "offline" and self.vision_timeout <= 2 * self.ai_timeout:
            raise ValueError("VISION_TIMEOUT must be longer than twice AI_TIMEOUT")
        return self

    @model_validator(mode="after")
    def _required_sandbox_starts_no_programs(self) -> Self:
        if self.sandbox == "required" and self.ocr_engine == "pytesseract" and Stage.OCR not in self.stages_off:
            raise ValueError("SANDBOX=required doesn't allow OCR_ENGINE=pytesseract, which starts programs")
        return self


def load_settings(others: Iterable[str] = ()) -> Settings:
    """Read the settings from `.env` and the environment; raise StartupError with the first variable that is wrong.

    `others` are names of further settings that the environment gets from `.env`.
    """
    load_environment([*Settings.model_fields, *others])
    return read_environment()


def read_environment() -> Settings:
    """Read the settings from the environment; raise StartupError with the first variable that is wrong."""
    try:
        return Settings()
    except SettingsError as error:
        # The message names the field and not its value.
        name = next((name for name in Settings.model_fields if f'"{name}"' in str(error)), "")
        raise StartupError(f"{name.upper()}: is not valid JSON") from None
    except ValidationError as error:
        raise StartupError(describe(error)) from None


def describe(error: ValidationError, *, prefix: str = "") -> str:
    """Return the first invalid setting and the reason in one line, without the value, which may be a secret."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    setting, path = first["loc"][:1], first["loc"][1:]
    name = f"{prefix}{setting[0]}".upper() if setting else ""
    # The position of a wrong price, for example.
    where = ".".join(str(part) for part in path if isinstance(part, str))
    reason = " ".join(first["msg"].removeprefix("Value error, ").split())
    return ": ".join(part for part in (name, where, reason) if part)
