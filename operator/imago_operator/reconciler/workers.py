"""Workers of dedicated lanes: a Deployment and a ScaledObject for each stage, from templates that the chart renders.

They run in the namespace of the release, because they use the platform's credentials. Labels record which resource they
belong to, because ownerReferences cannot cross namespaces.
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
from imago_operator.apis.kubernetes import Kubernetes, Object, custom_path
from imago_operator.resource import CLIENT_ID_LABEL, CLIENT_NAME_LABEL, CLIENT_NAMESPACE_LABEL, ResourceRef

CHECKSUM_ANNOTATION = "imago.dev/template-checksum"
# Names are limited to 63 characters, release name included; 64 bits of the uuid are unique within a cluster.
SUFFIX_LENGTH = 16


@dataclass(frozen=True)
class WorkerKind:
    """A kind of Kubernetes object that a dedicated lane consists of."""

    group: str
    version: str
    plural: str
    kind: str

    def path(self, namespace: str, name: str = "") -> str:
        """Return the path of an object, or of all objects of this kind in a namespace."""
        return custom_path(self.group, self.version, namespace, self.plural, name)


DEPLOYMENT = WorkerKind("apps", "v1", "deployments", "Deployment")
SCALED_OBJECT = WorkerKind("keda.sh", "v1alpha1", "scaledobjects", "ScaledObject")
# Created in this order and deleted in reverse, so that KEDA never scales a missing Deployment.
KINDS = (DEPLOYMENT, SCALED_OBJECT)


class TemplatesInvalid(Exception):
    """The templates are not those that the chart renders; the release has to be fixed."""


@dataclass(frozen=True)
class WorkerManifest:
    """The manifest of a Deployment or ScaledObject, with its checksum as an annotation."""

    kind: WorkerKind
    name: str
    body: Object


def read_templates(folder: Path) -> tuple[Object, ...]:
    """Read the templates of the stages that are enabled in the release; raise TemplatesInvalid."""
    found: list[Object] = []
    for stage in WORKER_STAGES:
        path = folder / f"{stage}.yaml"
        if not path.exists():
            # This stage is disabled in the release.
            continue
        try:
            documents = [document for document in yaml.safe_load_all(path.read_text()) if document is not None]
        except (OSError, yaml.YAMLError) as error:
            raise TemplatesInvalid(f"{path.name}: {type(error).__name__}") from None
        kinds = [_kind_of(document) for document in documents]
        if sorted(kind.kind if kind else "" for kind in kinds) != ["Deployment", "ScaledObject"]:
            raise TemplatesInvalid(f"{path.name}: expected one Deployment and one ScaledObject")
        found += documents
    if not found:
        raise TemplatesInvalid(f"no templates in {folder}")
    return tuple(found)


def build_workers(
    templates: Iterable[Object], ref: ResourceRef, *, client: UUID, max_replicas: int, namespace: str
) -> tuple[WorkerManifest, ...]:
    """Build the workers of a client's dedicated lane, Deployments first."""
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
    workers = [_build_worker(template, values, labels, namespace=namespace) for template in templates]
    return tuple(sorted(workers, key=lambda worker: KINDS.index(worker.kind)))


def _build_worker(
    template: Object, values: Mapping[str, str | int], labels: Mapping[str, str], *, namespace: str
) -> WorkerManifest:
    kind = _kind_of(template)
    if kind is None:
        raise TemplatesInvalid(f"not a Deployment or ScaledObject: {template.get('kind')!r}")
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
    return WorkerManifest(kind, metadata["name"], body)


async def apply_workers(
    kubernetes: Kubernetes, workers: Iterable[WorkerManifest], *, client: UUID, namespace: str
) -> None:
    """Create or update the workers of a client, and delete its other ones."""
    present = await list_workers(kubernetes, namespace, client=client)
    known = {(kind, item["metadata"]["name"]): _checksum(item) for kind, item in present}
    for worker in workers:
        if known.pop((worker.kind, worker.name), None) != _checksum(worker.body):
            await kubernetes.apply(worker.kind.path(namespace, worker.name), worker.body)
    for kind, name in known:
        await kubernetes.delete(kind.path(namespace, name))


async def delete_workers(kubernetes: Kubernetes, *, client: UUID, namespace: str) -> None:
    """Delete all workers of a client."""
    for kind, item in reversed(await list_workers(kubernetes, namespace, client=client)):
        await kubernetes.delete(kind.path(namespace, item["metadata"]["name"]), uid=item["metadata"]["uid"])


async def list_workers(
    kubernetes: Kubernetes, namespace: str, *, client: UUID | None = None
) -> list[tuple[WorkerKind, Object]]:
    """Return the workers of a client, or of all clients, Deployments first."""
    selector = CLIENT_ID_LABEL if client is None else f"{CLIENT_ID_LABEL}={client}"
    found: list[tuple[WorkerKind, Object]] = []
    for kind in KINDS:
        answer = await kubernetes.get(f"{kind.path(namespace)}?labelSelector={selector}")
        # None if the kind does not exist, because KEDA is not installed.
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
    # A value that is only a placeholder keeps its type: maxReplicaCount is a number.
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
