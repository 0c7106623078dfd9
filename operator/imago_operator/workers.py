"""Workers of dedicated lanes: a Deployment and a ScaledObject for each stage, from templates that the chart renders.

They live in the namespace of the release, since they hold the platform's credentials; ownerReferences can't cross
namespaces, so labels tell whose they are.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import yaml

from imago.core.jobs.stages import WORKER_STAGES
from imago.core.lanes.model import client_token
from imago.core.outbox.subjects import work_stream
from imago_operator.kubernetes import Kubernetes, Object, custom_path
from imago_operator.resource import CLIENT_ID_LABEL, CLIENT_NAME_LABEL, CLIENT_NAMESPACE_LABEL, Ref

CHECKSUM_ANNOTATION = "imago.dev/template-checksum"
# Object names have 63 characters, and the release's name goes before it; 64 bits tell the clients of one cluster apart.
SUFFIX_LENGTH = 16


@dataclass(frozen=True)
class WorkerKind:
    """A kind of object that a dedicated lane consists of."""

    group: str
    version: str
    plural: str
    kind: str

    def path(self, namespace: str, name: str = "") -> str:
        """Return the path of an object, or of all in a namespace."""
        return custom_path(self.group, self.version, namespace, self.plural, name)


DEPLOYMENT = WorkerKind("apps", "v1", "deployments", "Deployment")
SCALED_OBJECT = WorkerKind("keda.sh", "v1alpha1", "scaledobjects", "ScaledObject")
# In this order they are made; in the other they are removed, so that KEDA never scales what is gone.
KINDS = (DEPLOYMENT, SCALED_OBJECT)


class TemplatesInvalid(Exception):
    """The templates aren't what the chart renders; a person has to mend the release."""


@dataclass(frozen=True)
class Worker:
    """An object to be, and its checksum."""

    kind: WorkerKind
    name: str
    body: Object


def read_templates(folder: Path) -> tuple[Object, ...]:
    """Read the templates of the kinds of workers that the release has; raise TemplatesInvalid."""
    found: list[Object] = []
    for stage in WORKER_STAGES:
        path = folder / f"{stage}.yaml"
        if not path.exists():
            # The release has this kind switched off.
            continue
        try:
            documents = [document for document in yaml.safe_load_all(path.read_text()) if document is not None]
        except (OSError, yaml.YAMLError) as error:
            raise TemplatesInvalid(f"{path.name}: {type(error).__name__}") from None
        kinds = [_kind_of(document) for document in documents]
        if sorted(kind.kind if kind else "" for kind in kinds) != ["Deployment", "ScaledObject"]:
            raise TemplatesInvalid(f"{path.name}: one Deployment and one ScaledObject are needed")
        found += documents
    if not found:
        raise TemplatesInvalid(f"no templates in {folder}")
    return tuple(found)


def build_workers(
    templates: Iterable[Object], ref: Ref, *, client: UUID, max_replicas: int, namespace: str
) -> tuple[Worker, ...]:
    """Build the workers of a client's own lane, Deployments first."""
    token = client_token(client)
    values: dict[str, str | int] = {
        "$(NAME)": token[:SUFFIX_LENGTH],
        "$(LANE)": token,
        "$(STREAM)": work_stream(token),
        "$(MAX_REPLICAS)": max_replicas,
    }
    labels = {
        CLIENT_ID_LABEL: str(client),
        CLIENT_NAMESPACE_LABEL: ref.namespace,
        CLIENT_NAME_LABEL: ref.name,
    }
    workers = []
    for template in templates:
        kind = _kind_of(template)
        if kind is None:
            raise TemplatesInvalid(f"not a worker: {template.get('kind')!r}")
        body = _filled(template, values)
        metadata = body["metadata"]
        metadata["namespace"] = namespace
        metadata["labels"] = {**(metadata.get("labels") or {}), **labels}
        if kind is DEPLOYMENT:
            pod = body["spec"]["template"].setdefault("metadata", {})
            pod["labels"] = {**(pod.get("labels") or {}), **labels}
        checksum = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:32]
        if kind is DEPLOYMENT:
            _annotate(body["spec"]["template"]["metadata"], checksum)
        _annotate(metadata, checksum)
        workers.append(Worker(kind, metadata["name"], body))
    return tuple(sorted(workers, key=lambda worker: KINDS.index(worker.kind)))


async def apply_workers(kubernetes: Kubernetes, workers: Iterable[Worker], *, client: UUID, namespace: str) -> int:
    """Make the workers what they are to be and remove others of the client; return how many were changed."""
    wanted = tuple(workers)
    present = await list_workers(kubernetes, namespace, client=client)
    known = {(kind, item["metadata"]["name"]): _checksum(item) for kind, item in present}
    changed = 0
    for worker in wanted:
        if known.pop((worker.kind, worker.name), None) != _checksum(worker.body):
            await kubernetes.apply(worker.kind.path(namespace, worker.name), worker.body)
            changed += 1
    for kind, name in known:
        await kubernetes.delete(kind.path(namespace, name))
    return changed


async def remove_workers(kubernetes: Kubernetes, *, client: UUID, namespace: str) -> int:
    """Remove all workers of a client; return how many there were."""
    present = await list_workers(kubernetes, namespace, client=client)
    for kind, item in reversed(present):
        await kubernetes.delete(kind.path(namespace, item["metadata"]["name"]), uid=item["metadata"]["uid"])
    return len(present)


async def list_workers(
    kubernetes: Kubernetes, namespace: str, *, client: UUID | None = None
) -> list[tuple[WorkerKind, Object]]:
    """Return the workers of a client, or of all clients, Deployments first."""
    selector = CLIENT_ID_LABEL if client is None else f"{CLIENT_ID_LABEL}={client}"
    found: list[tuple[WorkerKind, Object]] = []
    for kind in KINDS:
        answer = await kubernetes.get(f"{kind.path(namespace)}?labelSelector={selector}")
        # None where KEDA isn't installed: then there are none of its objects.
        found += [(kind, item) for item in (answer or {}).get("items", ())]
    return found


def _kind_of(document: Mapping[str, Any]) -> WorkerKind | None:
    for kind in KINDS:
        if (document.get("apiVersion"), document.get("kind")) == (f"{kind.group}/{kind.version}", kind.kind):
            return kind
    return None


def _filled(template: Any, values: Mapping[str, str | int]) -> Any:
    if isinstance(template, str):
        return _substituted(template, values)
    if isinstance(template, dict):
        return {key: _filled(value, values) for key, value in template.items()}
    if isinstance(template, list):
        return [_filled(value, values) for value in template]
    return template


def _substituted(text: str, values: Mapping[str, str | int]) -> str | int:
    # The whole of a value keeps its type: maxReplicaCount is a number.
    if text in values:
        return values[text]
    for name, value in values.items():
        text = text.replace(name, str(value))
    return text


def _annotate(metadata: dict[str, Any], checksum: str) -> None:
    metadata["annotations"] = {**(metadata.get("annotations") or {}), CHECKSUM_ANNOTATION: checksum}


def _checksum(body: Mapping[str, Any]) -> str | None:
    value = (body["metadata"].get("annotations") or {}).get(CHECKSUM_ANNOTATION)
    return None if value is None else str(value)
