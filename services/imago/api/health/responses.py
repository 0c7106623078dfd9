"""Responses of the health checks and of the root."""

from typing import Literal

from typing_extensions import TypedDict

from imago import __version__


class RootResponse(TypedDict):
    """The name and version of the service, and the paths of its documentation."""

    name: str
    version: str
    docs: str
    openapi: str


class HealthResponse(TypedDict):
    """Whether the process is alive, or ready."""

    status: Literal["ok", "draining"]


def root_response() -> RootResponse:
    """Return the name and version of the service."""
    return {"name": "imago", "version": __version__, "docs": "/docs", "openapi": "/openapi.json"}
