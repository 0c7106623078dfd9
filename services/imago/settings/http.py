"""The HTTP server of the API."""

from functools import cached_property
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from imago.core.forwarded import Network, parse_networks
from imago.settings.base import CommaList, Count, HttpUrl, Seconds, SettingsGroup, check_url


class HttpSettings(SettingsGroup):
    """Addresses, rate limits by address, and connection timeouts."""

    host: str = Field("127.0.0.1", pattern=r"^[A-Za-z0-9._:%-]+$")
    port: int = Field(8000, ge=0, le=65535)
    public_url: HttpUrl | None = None
    metrics_port: int | None = Field(None, ge=1, le=65535)
    cors_origins: CommaList = ()
    trusted_proxies: CommaList = ()
    """Networks whose `X-Forwarded-For` is believed."""
    anonymous_per_minute: Count = 300
    """Requests per minute of one address without a valid key; in each process."""
    anonymous_burst: Count = 100
    files_per_minute: Count = 6000
    """The same for signed URLs of local storage."""
    files_burst: Count = 1000
    keepalive_timeout: Seconds = 75.0
    header_timeout: Seconds = 15.0
    """Time limit for the first request's line and headers on a new connection."""
    json_body_timeout: Seconds = 30.0
    """Time limit for receiving a JSON body, of at most 1 MiB."""
    response_idle_timeout: Seconds = 30.0
    """The longest time in which a client reads nothing of a response that waits for it."""
    response_min_rate: int = Field(1024, ge=0, le=2**30)
    """Bytes per second that a client must read, on average, after a response has waited for it for 30 seconds."""
    max_connections: Count = 8192
    """Open connections of a process; at most half as many as it may open files."""
    request_memory_mb: int = Field(256, ge=16, le=2**20)
    """Memory of a process for JSON bodies, responses over 32 KiB, parts of uploads to S3, and fetched pages; one client
    gets at most two thirds.
    """
    shutdown_timeout: Seconds = 8.0
    drain_delay: float = Field(0.0, ge=0, le=3600, allow_inf_nan=False)
    """Seconds between reporting not ready and closing the port, for load balancers to notice; the chart sets it."""
    events_heartbeat: Seconds = 15.0
    """Seconds between two comments on an idle event stream, so that proxies do not close it."""

    @field_validator("trusted_proxies")
    @classmethod
    def _known_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        parse_networks(value)
        return value

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if origin != "*" and urlsplit(check_url(origin, ("https", "http"))).path:
                raise ValueError("an origin has no path: https://host:port")
        return value

    @cached_property
    def trusted_networks(self) -> tuple[Network, ...]:
        """The networks of `trusted_proxies`."""
        return parse_networks(self.trusted_proxies)
