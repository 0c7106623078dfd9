"""Prevents an uninstall while resources of this installation exist; runs as the chart's pre-delete hook."""

import json
import os
import ssl
import sys
import urllib.error
import urllib.request
from pathlib import Path

ACCOUNT = Path(os.environ.get("SERVICE_ACCOUNT", "/var/run/secrets/kubernetes.io/serviceaccount"))


def remaining(namespace: str, plural: str, installation: str) -> list[str]:
    """Return the installation's resources in a namespace (`*` for all); none if the CRD does not exist."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    place = "" if namespace == "*" else f"namespaces/{namespace}/"
    request = urllib.request.Request(
        f"https://{f'[{host}]' if ':' in host else host}:{port}/apis/imago.dev/v1alpha1/{place}{plural}",
        headers={"Authorization": f"Bearer {(ACCOUNT / 'token').read_text().strip()}"},
    )
    context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    try:
        with urllib.request.urlopen(request, context=context, timeout=30) as answer:
            items = json.load(answer)["items"]
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return []
        raise
    return [
        f"{item['metadata']['namespace']}/{item['metadata']['name']}"
        for item in items
        if item.get("spec", {}).get("installation", "default") == installation
    ]


def main() -> None:
    """Exit with an error message if the uninstall must not continue."""
    installation = os.environ["INSTALLATION"]
    namespaces = os.environ["NAMESPACES"].split(",")
    for kind, plural in (("ImagoClients", "imagoclients"), ("ImagoReprocesses", "imagoreprocesses")):
        try:
            found = [name for namespace in namespaces for name in remaining(namespace, plural, installation)]
        except (OSError, ValueError, KeyError) as error:
            sys.exit(f"cannot check for remaining {kind} ({error}); set operator.forceUninstall to continue")
        if found:
            sys.exit(f"{kind} exist: {', '.join(found)}. Delete them first, or set operator.forceUninstall")


if __name__ == "__main__":
    main()
