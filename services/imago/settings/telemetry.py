"""Logs, metrics and traces, and the failpoints of tests."""

from typing import Annotated, Literal

from pydantic import field_validator

from imago.runtime import failpoints
from imago.settings.base import CommaList, ExistingDirectory, HttpUrl, LowerCase, SettingsGroup

# Each name is a label of some dozens of series in each process.
MAX_METRICS_CLIENTS = 50


class TelemetrySettings(SettingsGroup):
    """Logs, metrics, traces and failpoints of a process."""

    debug: bool = False
    """Console logs instead of JSON, and logs of level debug."""
    log_level: Annotated[Literal["debug", "info", "warning", "error"], LowerCase] = "info"
    metrics_clients: CommaList = ()
    """Names of the clients, 50 at most, that have their own label in metrics; all others are `other`."""
    otel_exporter_otlp_endpoint: HttpUrl | None = None
    prometheus_multiproc_dir: ExistingDirectory | None = None
    failpoints: str = ""
    """Where a test makes this process crash, freeze or skip a step (`imago.runtime.failpoints`); not for production."""

    @field_validator("metrics_clients")
    @classmethod
    def _few_clients(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(value) > MAX_METRICS_CLIENTS:
            raise ValueError(f"METRICS_CLIENTS takes at most {MAX_METRICS_CLIENTS} names")
        return value

    @field_validator("failpoints")
    @classmethod
    def _known_failpoints(cls, value: str) -> str:
        failpoints.parse(value)
        return value
