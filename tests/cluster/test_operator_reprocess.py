"""ImagoReprocess on a real API server: from `kubectl apply` to its deletion after the TTL, and what the CRD refuses."""

from typing import Any

import pytest

from imago_operator.apis.kubernetes import KubernetesRefused, custom_path
from tests.support.operator import condition
from tests.support.operator_world import OTHER_TENANTS, TENANTS, OperatorCluster, create_ready

Object = dict[str, Any]


def imr_path(namespace: str, name: str = "") -> str:
    """Return the path of an ImagoReprocess, or of all in a namespace."""
    return custom_path("imago.dev", "v1alpha1", namespace, "imagoreprocesses", name)


def imr(name: str, *, selection: Object | None = None, **spec: Any) -> Object:
    """Build an ImagoReprocess."""
    return {
        "apiVersion": "imago.dev/v1alpha1",
        "kind": "ImagoReprocess",
        "metadata": {"name": name},
        "spec": {"selection": {"stages": ["exif"], **(selection or {})}, **spec},
    }


async def has_reason(world: OperatorCluster, namespace: str, name: str, reason: str) -> Object:
    """Wait until Ready has a reason, and return the resource."""

    async def look() -> Object | None:
        found = await world.kube.get(imr_path(namespace, name))
        return found if found and condition(found, "Ready").get("reason") == reason else None

    seen: Object | None = await world.kube.until(look, what=f"{name} to be {reason}")
    assert seen is not None
    return seen


async def test_a_job_over_a_client_of_another_namespace_is_refused(world: OperatorCluster) -> None:
    client, _, _ = await create_ready(world)
    found = await world.kube.imc(TENANTS, client)
    assert found is not None
    name, foreign = world.name("again"), found["status"]["clientId"]
    await world.kube.create(imr_path(OTHER_TENANTS), imr(name, selection={"clientIds": [foreign]}))
    refused = await has_reason(world, OTHER_TENANTS, name, "ClientForeign")
    assert refused["status"]["phase"] == "Pending"
    _, page = await world.imago.call("GET", "/admin/reprocess-jobs")
    assert refused["metadata"]["uid"] not in {job["uuid"] for job in page["items"]}
    await world.kube.delete(imr_path(OTHER_TENANTS, name))


async def test_a_selection_without_images_fails_and_is_deleted_after_its_ttl(world: OperatorCluster) -> None:
    client, _, _ = await create_ready(world)
    name = world.name("again")
    await world.kube.create(imr_path(TENANTS), imr(name, selection={"clients": [client]}, ttlAfterFinished="3s"))
    assert (await has_reason(world, TENANTS, name, "NothingSelected"))["status"]["phase"] == "Failed"

    async def gone() -> bool:
        return await world.kube.get(imr_path(TENANTS, name)) is None

    await world.kube.until(gone, what="the resource to be deleted after its TTL")


@pytest.mark.parametrize(
    "bad",
    [
        {"selection": {"stages": []}},
        {"selection": {"stages": ["blur"]}},
        {"selection": {"modelNot": "x"}},
        {"imagesPerMinute": 0},
        {"ttlAfterFinished": "soon"},
    ],
)
async def test_the_crd_refuses_a_bad_spec(world: OperatorCluster, bad: Object) -> None:
    with pytest.raises(KubernetesRefused):
        await world.kube.create(imr_path(TENANTS), imr(world.name("bad"), **bad))
