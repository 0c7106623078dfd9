"""Applies the CRDs unless the cluster has newer ones; runs as the chart's hook before an install or upgrade.

As part of the release, a rollback would revert them, and the newer fields of ImagoClients would be lost.
"""

import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

ACCOUNT = Path(os.environ.get("SERVICE_ACCOUNT", "/var/run/secrets/kubernetes.io/serviceaccount"))
VERSION = "imago.dev/chart-version"
TIMEOUT_SECONDS = 60


def call(method: str, name: str, query: str = "", body: Any = None) -> Any:
    """Send a request about a CRD to the API server and return its reply; raise HTTPError."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    request = urllib.request.Request(
        f"https://{f'[{host}]' if ':' in host else host}:{port}"
        f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}{query}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={
            "Authorization": f"Bearer {(ACCOUNT / 'token').read_text().strip()}",
            "Content-Type": "application/apply-patch+yaml",
        },
    )
    context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    with urllib.request.urlopen(request, context=context, timeout=30) as answer:
        return json.load(answer)


def rank(version: str) -> tuple[Any, ...]:
    """Return the sort key of a version: numbers, then a release above its candidates (semver.org, 11)."""
    core, _, candidate = version.partition("+")[0].partition("-")
    parts = [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in candidate.split(".")]
    return tuple(int(number) for number in core.split(".")), not candidate, parts


def apply(crd: Any) -> str:
    """Apply a CRD unless the cluster's is from a newer chart, and return a message about the result."""
    name, own = crd["metadata"]["name"], crd["metadata"]["annotations"][VERSION]
    try:
        live = call("GET", name)["metadata"]
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise
    else:
        present = live.get("annotations", {}).get(VERSION)
        if present is not None and rank(present) > rank(own):
            return f"{name} left unchanged: the cluster has it from chart {present}, this chart is {own}"
        # If another release changed it concurrently, the server replies 409 and the versions are compared again.
        crd["metadata"]["resourceVersion"] = live["resourceVersion"]
    call("PATCH", name, "?fieldManager=imago-chart&force=true", crd)
    return f"{name} applied from chart {own}"


def is_established(name: str) -> bool:
    """Return whether the API server serves resources of the CRD."""
    conditions = call("GET", name).get("status", {}).get("conditions", [])
    return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)


def main() -> None:
    """Apply every CRD in the directory and wait until it is established; exit with a message after a failure."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    for path in sorted(Path(os.environ["CRDS"]).glob("*.json")):
        while True:
            try:
                print(apply(json.loads(path.read_text())))
                break
            except urllib.error.HTTPError as error:
                if error.code != 409 or time.monotonic() > deadline:
                    sys.exit(f"{path.stem}: {error.code} {error.read().decode(errors='replace')[:500]}")
            except OSError as error:
                if time.monotonic() > deadline:
                    sys.exit(f"the API server is unavailable: {error}")
            time.sleep(1)
        while not is_established(path.stem):
            if time.monotonic() > deadline:
                sys.exit(f"{path.stem} is not established; see its conditions")
            time.sleep(0.5)


if __name__ == "__main__":
    main()
