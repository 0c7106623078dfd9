"""Settings: every environment variable that Imago reads, in one frozen model made of one class per concern.

`.env.example` lists all of them. Durations are in seconds and sizes in bytes unless a name says otherwise (`…_MB` is
2^20 bytes).
"""

from typing import Self

from pydantic import ValidationError, model_validator
from pydantic_settings import SettingsError

from imago.core.jobs.stages import Stage
from imago.settings.ai import AiSettings
from imago.settings.auth import AuthSettings
from imago.settings.database import DatabaseSettings
from imago.settings.http import HttpSettings
from imago.settings.maintenance import MaintenanceSettings
from imago.settings.nats import NatsSettings
from imago.settings.stages import StageSettings
from imago.settings.storage import StorageSettings
from imago.settings.telemetry import TelemetrySettings
from imago.settings.uploads import UploadSettings
from imago.settings.worker import WorkerSettings
from imago.startup import StartupError


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


def load_settings() -> Settings:
    """Read the settings from the environment; raise StartupError with the first variable that is wrong."""
    try:
        return Settings()
    except SettingsError as error:
        # A value that is not valid JSON; the message names the setting and not its value.
        raise StartupError(str(error)) from None
    except ValidationError as error:
        first = error.errors()[0]
        name = "_".join(str(part) for part in first["loc"]).upper()
        # Without the value, which may be a secret.
        text = f"{name + ': ' if name else ''}{first['msg'].removeprefix('Value error, ')}"
        raise StartupError(text) from None
