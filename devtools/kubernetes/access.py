"""Access to a test cluster: kubectl with a kubeconfig whose context has a name reserved for tests."""

import json
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import yaml

from devtools.kubernetes.binaries import find

CONTEXT = "imago-test"
T = TypeVar("T")


class KubectlError(Exception):
    """kubectl failed; the message is its error output."""


class Access:
    """The cluster of a kubeconfig. Other contexts are refused, because tests delete objects."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        self._kubectl = find("kubectl")

    def check_context(self) -> None:
        """Fail unless the kubeconfig's current context is the test context, or one of kind's."""
        context = self.kubectl("config", "current-context").strip()
        assert context == CONTEXT or context.startswith("kind-imago"), (
            f"the current context of {self.kubeconfig} is {context!r}; the tests only use {CONTEXT!r}"
        )

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout: float = 120) -> str:
        """Run kubectl and return its output; raise KubectlError."""
        done = subprocess.run(
            [self._kubectl, f"--kubeconfig={self.kubeconfig}", *arguments],
            input=stdin,
            text=True,
            capture_output=True,
            timeout=timeout,
            # Otherwise it would write its caches to the home directory of the user.
            env={"HOME": str(self.kubeconfig.parent), "PATH": "/usr/bin:/bin"},
        )
        if done.returncode != 0:
            raise KubectlError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def apply(self, *objects: dict[str, Any], manifest: Path | None = None) -> None:
        """Apply objects, or a manifest file, with server-side apply."""
        options = ["apply", "--server-side", "--force-conflicts", "-f"]
        if manifest is not None:
            self.kubectl(*options, str(manifest))
        if objects:
            self.kubectl(*options, "-", stdin=yaml.safe_dump_all(objects))

    def get(self, kind: str, name: str, namespace: str | None = None) -> dict[str, Any] | None:
        """Return an object, or None if it does not exist."""
        options = ["--ignore-not-found", "--output=json", *_in(namespace)]
        text = self.kubectl("get", kind, name, *options)
        found: dict[str, Any] | None = json.loads(text) if text.strip() else None
        return found

    def list(self, kind: str, namespace: str | None = None, selector: str = "") -> list[dict[str, Any]]:
        """Return the objects of a kind in one namespace, or in all."""
        where = _in(namespace) or ["--all-namespaces"]
        options = [f"--selector={selector}"] if selector else []
        found: list[dict[str, Any]] = json.loads(self.kubectl("get", kind, "--output=json", *where, *options))["items"]
        return found

    def delete(self, kind: str, name: str, namespace: str | None = None, *, wait: bool = True) -> None:
        """Delete an object if it exists."""
        self.kubectl("delete", kind, name, "--ignore-not-found", f"--wait={str(wait).lower()}", *_in(namespace))

    def token(self, service_account: str, namespace: str, *, seconds: int = 3600) -> str:
        """Return a token for a ServiceAccount."""
        return self.kubectl("create", "token", service_account, f"--duration={seconds}s", *_in(namespace)).strip()

    def kubeconfig_of(self, service_account: str, namespace: str, path: Path) -> Path:
        """Write a kubeconfig with the permissions of a ServiceAccount, as a pod has them."""
        config = yaml.safe_load(self.kubectl("config", "view", "--raw", "--minify", "--flatten"))
        config["users"][0]["user"] = {"token": self.token(service_account, namespace)}
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(config))
        return path

    def wait_for(self, condition: Callable[[], T], *, what: str, timeout: float = 60, interval: float = 0.2) -> T:
        """Return the first true value of a condition; an error of kubectl counts as false."""
        deadline = time.monotonic() + timeout
        seen: object = None
        while True:
            try:
                value = condition()
                if value:
                    return value
                seen = value
            except KubectlError as error:
                seen = error
            assert time.monotonic() < deadline, (
                f"timed out after {timeout:g} s waiting for {what} (last seen: {seen!r})"
            )
            time.sleep(interval)


def _in(namespace: str | None) -> Iterable[str]:
    return [f"--namespace={namespace}"] if namespace else []
