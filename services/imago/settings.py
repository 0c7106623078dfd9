"""Settings: every environment variable that Imago reads, in one frozen model.

The names and defaults that the original system had are kept; `.env.example` lists all of them. Durations are in
seconds and sizes in bytes unless a name says otherwise (`…_MB` is 2^20 bytes).
"""

from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from imago import failpoints
from imago.core.ai_usage.model import BudgetPolicy, Price
from imago.core.forwarded import Network, networks
from imago.core.jobs.stages import Stage
from imago.core.lanes.worker_lanes import WorkerLanes

MB = 2**20

# Each name is a label of some dozens of series in each process.
MOST_METRICS_CLIENTS = 50

# What signs tokens is no shorter than HS256's digest, in bytes (RFC 7518, section 3.2): a shorter one can be guessed.
LEAST_TOKEN_SECRET = 32

CommaList = Annotated[tuple[str, ...], NoDecode]


class Settings(BaseSettings):
    """The configuration of one process; `Settings()` reads the environment, tests pass arguments."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True, populate_by_name=True)

    debug: bool = False
    """Console logs instead of JSON, and logs of level debug."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    # Secrets. `imago dev` generates those that are unset and keeps them in its data directory.
    admin_api_key: SecretStr | None = None
    operator_api_key: SecretStr | None = None
    jwt_secret_key: SecretStr | None = None
    signed_url_secret: SecretStr | None = None
    api_key_pepper: SecretStr | None = None

    # Database.
    database_url: str = "sqlite+aiosqlite:///data/imago.db"
    database_runtime_role: str | None = None
    """PostgreSQL's role that `imago migrate` lets use the tables; API and workers log in as it and own nothing."""
    database_pool_size: int = Field(10, ge=1)
    database_timeout: float = Field(10.0, gt=0)
    """The longest wait for a connection or for one statement."""

    # NATS.
    nats_url: CommaList = ("nats://127.0.0.1:4222",)
    nats_user: str | None = None
    nats_password: SecretStr | None = None
    nats_token: SecretStr | None = None
    nats_creds_file: Path | None = None
    nats_tls_ca: Path | None = None
    nats_tls_cert: Path | None = None
    nats_tls_key: Path | None = None
    nats_replicas: int = Field(1, ge=1, le=5)
    nats_timeout: float = Field(5.0, gt=0)
    """The longest wait for a JetStream answer."""

    # Storage.
    storage_backend: Literal["local", "s3"] = "local"
    storage_dir: Path = Path("data/objects")
    s3_bucket: str | None = None
    s3_endpoint_url: str | None = None
    s3_public_endpoint_url: str | None = None
    s3_region: str = "us-east-1"
    s3_access_key: SecretStr | None = None
    s3_secret_key: SecretStr | None = None
    s3_prefix: str = ""
    s3_addressing: Literal["path", "virtual"] = "path"
    s3_timeout: float = Field(30.0, gt=0)
    """The longest wait for S3 to move on: connecting, or one read or write."""
    signed_url_ttl: int = Field(3600, ge=1, le=7 * 24 * 3600)

    # HTTP.
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    public_url: str | None = None
    metrics_port: int | None = Field(None, ge=1, le=65535)
    cors_origins: CommaList = ()
    trusted_proxies: CommaList = ()
    """Networks whose `X-Forwarded-For` is believed."""
    anonymous_per_minute: int = Field(300, ge=1)
    """Requests a minute of one address without a valid key, with `anonymous_burst` at once; in each process."""
    anonymous_burst: int = Field(100, ge=1)
    files_per_minute: int = Field(6000, ge=1)
    """The same for signed URLs of local storage."""
    files_burst: int = Field(1000, ge=1)
    uploads_per_client: int = Field(32, ge=1)
    """Uploads of one client under way at once, and the size of all of them; in each process."""
    upload_mb_per_client: int = Field(1024, ge=1)
    max_upload_size_mb: int = Field(50, ge=1)
    max_image_pixels: int = Field(50_000_000, ge=1)
    keepalive_timeout: float = Field(75.0, gt=0)
    upload_idle_timeout: float = Field(30.0, gt=0)
    """The longest pause between two reads of an upload."""
    upload_min_rate: int = Field(1024, ge=0)
    """Bytes a second that an upload must keep on average after its first 30 seconds."""
    upload_total_timeout: float = Field(900.0, gt=0)
    shutdown_timeout: float = Field(8.0, gt=0)
    drain_delay: float = Field(0.0, ge=0)
    """Seconds between saying not ready and closing the port, for balancers to notice; the chart sets it."""
    header_timeout: float = Field(15.0, gt=0)
    """Within this the first request's line and headers must have come on a new connection."""
    events_heartbeat: float = Field(15.0, gt=0)
    """Seconds between two comments on a quiet event stream, so that nothing in between takes it for dead."""
    idempotency_ttl: int = Field(24 * 3600, ge=60)
    idempotency_lease: float = Field(30.0, gt=0)
    """Seconds after which the Idempotency-Key of a killed upload may be used again."""

    # Stages.
    ocr_enabled: bool = True
    disabled_stages: CommaList = ()
    thumbnail_mode: Literal["deferred", "inline"] = "deferred"
    thumbnail_size: int = Field(512, ge=16, le=4096)
    """The longest side in pixels."""
    thumbnail_format: Literal["webp", "jpeg"] = "webp"
    exif_reader: Literal["ifd", "piexif"] = "ifd"
    ocr_engine: Literal["tesserocr", "pytesseract"] = "tesserocr"
    ocr_languages: str = "fra+eng"
    ocr_half_scale: bool = False
    """Whether tesserocr reads pages of large letters alone, as scans at 300 dpi, at half their size: half the CPU."""
    tessdata_dir: Path | None = None
    ocr_fallback: Literal["none", "rapidocr", "ai"] = "none"
    ocr_fallback_confidence: float = Field(0.5, ge=0, le=1)
    """Below this mean confidence of Tesseract the fallback engine reads the page too."""
    model_dir: Path | None = None
    """Where the offline vision model lies; unset: the user's cache directory."""

    # AI.
    ai_provider: Literal["gemini", "openrouter", "offline"] | None = None
    ai_fallback: CommaList = ()
    """Providers tried in this order when the first one fails."""
    ai_model: str | None = None
    """A model of the provider's; must be set for `openrouter`."""
    ai_timeout: float = Field(60.0, gt=0)
    """The longest wait for one answer of a provider."""
    ai_budget_policy: BudgetPolicy = BudgetPolicy.HOLD
    """What happens when a client's AI calls of the month are used up, unless the client has a policy of its own."""
    ai_prices: dict[str, Price] = {}
    """Prices by a model's name, in US dollars a million tokens: `{"some-model": {"input": 0.3, "output": 2.5}}`."""
    ai_image_side: int = Field(1024, ge=64, le=4096)
    """The longest side in pixels of images that providers describe: what models use at most of one."""
    ai_page_side: int = Field(2048, ge=64, le=4096)
    """The same of pages whose text they read."""
    ai_calls_kept_days: int = Field(90, ge=1)
    """For how long single calls stay in the database; the sums of months stay."""
    gemini_api_key: SecretStr | None = None
    gemini_base_url: str | None = None
    openrouter_api_key: SecretStr | None = None
    openrouter_base_url: str = "https://openrouter.ai/api/v1"
    vision_min_confidence: float = Field(0.35, ge=0, le=1)
    """Below this the offline provider says less instead of guessing."""

    # Workers.
    worker_lanes: str = "premium,standard"
    worker_max_jobs: int = Field(10, ge=1)
    worker_max_tries: int = Field(3, ge=1)
    worker_processes: int | None = Field(None, ge=1)
    """Child processes for decoding and OCR; unset: one per core, at most `worker_max_jobs`."""
    heartbeat: float = Field(10.0, gt=0)
    """Seconds between two heartbeats; `ack_wait` and the lease of a claim are three of them."""
    retry_base: float = Field(2.0, gt=0)
    retry_cap: float = Field(300.0, gt=0)
    thumbnail_timeout: float = Field(60.0, gt=0)
    exif_timeout: float = Field(30.0, gt=0)
    ocr_timeout: float = Field(120.0, gt=0)
    vision_timeout: float = Field(180.0, gt=0)
    child_memory_mb: int = Field(2048, ge=256)
    """Address space of a child process, beyond what the process has before its first task."""
    child_cpu_seconds: int = Field(120, ge=1)
    """CPU seconds of one task in a child process."""

    # Upkeep.
    relay_interval: float = Field(1.0, gt=0)
    reconcile_interval: float = Field(15.0, gt=0)
    sweep_interval: float = Field(60.0, gt=0)
    intent_ttl: float = Field(1200.0, gt=0)
    """Life of an upload's intent; longer than `upload_total_timeout`, or a slow upload would lose its object."""
    audit_interval: float = Field(6 * 3600.0, gt=0)
    """Seconds between two comparisons of all objects in storage with the database."""

    # Tests.
    failpoints: str = ""
    """Where a test makes this process die, freeze or forget; never set in production (`imago.failpoints`)."""

    # Telemetry.
    metrics_clients: CommaList = ()
    """Names of the clients, 50 at most, that metrics have a label for; all others are `other`."""
    observe_interval: float = Field(15.0, gt=0)
    """Seconds between two looks at queues, open work, ended images and quotas, for the metrics."""
    otel_exporter_otlp_endpoint: str | None = None
    prometheus_multiproc_dir: Path | None = None

    @field_validator(
        "nats_url",
        "cors_origins",
        "trusted_proxies",
        "disabled_stages",
        "ai_fallback",
        "metrics_clients",
        mode="before",
    )
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("jwt_secret_key")
    @classmethod
    def _long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value().encode()) < LEAST_TOKEN_SECRET:
            raise ValueError(f"it needs {LEAST_TOKEN_SECRET} bytes or more, as of `openssl rand -hex 32`")
        return value

    @field_validator("disabled_stages")
    @classmethod
    def _known_stages(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if Stage(name) is Stage.THUMBNAIL:
                raise ValueError("the thumbnail stage can't be disabled")
        return value

    @field_validator("worker_lanes")
    @classmethod
    def _known_lanes(cls, value: str) -> str:
        WorkerLanes.parse(value)
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _known_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        networks(value)
        return value

    @field_validator("metrics_clients")
    @classmethod
    def _few_clients(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(value) > MOST_METRICS_CLIENTS:
            raise ValueError(f"METRICS_CLIENTS takes {MOST_METRICS_CLIENTS} names at most")
        return value

    @field_validator("failpoints")
    @classmethod
    def _known_failpoints(cls, value: str) -> str:
        failpoints.parse(value)
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.storage_backend == "s3" and not self.s3_bucket:
            raise ValueError("STORAGE_BACKEND=s3 needs S3_BUCKET")
        if self.intent_ttl <= self.upload_total_timeout:
            raise ValueError("INTENT_TTL must be longer than UPLOAD_TOTAL_TIMEOUT")
        if self.provider != "offline" and self.vision_timeout <= 2 * self.ai_timeout:
            raise ValueError("VISION_TIMEOUT must be longer than twice AI_TIMEOUT")
        return self

    @property
    def max_upload_bytes(self) -> int:
        """The largest file taken, in bytes."""
        return self.max_upload_size_mb * MB

    @property
    def ack_wait(self) -> float:
        """Seconds after which an unacknowledged message comes again: three heartbeats (DESIGN, section 5)."""
        return 3 * self.heartbeat

    @property
    def provider(self) -> str:
        """The AI provider in use: the one named, else Gemini where its key is set, else the offline one."""
        return self.ai_provider or ("gemini" if self.gemini_api_key else "offline")

    @cached_property
    def trusted_networks(self) -> tuple[Network, ...]:
        """The networks of `trusted_proxies`."""
        return networks(self.trusted_proxies)

    @cached_property
    def stages_off(self) -> frozenset[Stage]:
        """The stages that this server has switched off."""
        off = {Stage(name) for name in self.disabled_stages}
        return frozenset(off if self.ocr_enabled else off | {Stage.OCR})

    def stage_timeout(self, stage: Stage) -> float:
        """The longest wall time of one try of a stage, in seconds."""
        return {
            Stage.THUMBNAIL: self.thumbnail_timeout,
            Stage.EXIF: self.exif_timeout,
            # The second reading by a provider takes at most twice the patience for one of its answers.
            Stage.OCR: self.ocr_timeout + (2 * self.ai_timeout if self.ocr_fallback == "ai" else 0),
            Stage.VISION: self.vision_timeout,
        }[stage]
