"""The clients that an ImagoReprocess may select: any in the release's namespace, elsewhere those of its namespace."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from imago_operator.apis.kubernetes import Object, custom_path
from imago_operator.context import OperatorContext
from imago_operator.reprocessing.spec import ReprocessSpec
from imago_operator.resource import GROUP, PLURAL, VERSION, ResourceRef, ref_of


class ForeignClient(Exception):
    """The spec names a client that this namespace does not have; the text is for its author."""


async def select_clients(context: OperatorContext, ref: ResourceRef, spec: ReprocessSpec) -> tuple[UUID, ...] | None:
    """Return the uuids of the selected clients, None for all clients; raise ForeignClient.

    Outside of the release's namespace a client counts as the namespace's own only if Imago says that one of its
    ImagoClients owns it.
    """
    in_release = ref.namespace == context.settings.release_namespace
    if in_release and spec.names_no_client:
        return None
    if in_release and not (spec.clients or spec.labels):
        return spec.client_ids
    found = await _own_clients(context, ref.namespace, anywhere=in_release and not spec.clients)
    named = _named(found, spec)
    own = {client: body for client, body in named.items() if in_release or await _is_owner(context, client, body)}
    if in_release:
        return tuple(dict.fromkeys([*own, *spec.client_ids]))
    for client in spec.client_ids:
        body = found.get(client)
        if body is None or not await _is_owner(context, client, body):
            raise ForeignClient(
                f"Client {client} does not belong to an ImagoClient of the namespace {ref.namespace}. Only an "
                f"ImagoReprocess in the namespace {context.settings.release_namespace} may select it."
            )
    selected = tuple(dict.fromkeys([*own, *spec.client_ids]))
    if not selected:
        raise ForeignClient(f"The namespace {ref.namespace} has no ImagoClient that is selected and has a client.")
    return selected


def _named(found: Mapping[UUID, Object], spec: ReprocessSpec) -> dict[UUID, Object]:
    """Return the clients by names and labels; all of them if the spec names none. Raises ForeignClient."""
    names = {body["metadata"]["name"] for body in found.values()}
    missing = [name for name in spec.clients if name not in names]
    if missing:
        raise ForeignClient(f"No ImagoClient {missing[0]} with a client exists in this namespace.")
    if spec.client_ids and not spec.clients and not spec.labels:
        return {}
    return {
        client: body
        for client, body in found.items()
        if (not spec.clients or body["metadata"]["name"] in spec.clients) and _has_labels(body, spec.labels)
    }


def _has_labels(body: Object, labels: Mapping[str, str]) -> bool:
    present = body["metadata"].get("labels") or {}
    return all(present.get(name) == value for name, value in labels.items())


async def _own_clients(context: OperatorContext, namespace: str, *, anywhere: bool) -> dict[UUID, Object]:
    """Return the ImagoClients of this installation that have a client, by its uuid."""
    settings = context.settings
    namespaces: tuple[str | None, ...] = (namespace,)
    if anywhere:
        namespaces = (None,) if settings.watches_all_namespaces else settings.watch_namespaces
    found: dict[UUID, Object] = {}
    for name in namespaces:
        listed = await context.kubernetes.get(custom_path(GROUP, VERSION, name, PLURAL)) or {}
        found |= {UUID(_client_of(item)): item for item in listed.get("items", ()) if _counts(item, settings)}
    return found


def _counts(body: Object, settings: Any) -> bool:
    installation = (body.get("spec") or {}).get("installation", "default")
    return bool(installation == settings.installation and _client_of(body))


def _client_of(body: Object) -> str:
    return str((body.get("status") or {}).get("clientId") or "")


async def _is_owner(context: OperatorContext, client: UUID, body: Object) -> bool:
    state = await context.api.get(client)
    return state is not None and state.owner == await context.owner_for(ref_of(body))
