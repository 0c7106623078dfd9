"""The behaviour of the control plane that the other tests rely on."""

import time
from typing import Any

import pytest

from devtools.kubernetes.access import Access, KubectlError
from devtools.kubernetes.control_plane import ControlPlane


def _config_map(namespace: str, name: str, **more: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace, **more}}


def test_owned_objects_are_deleted_with_their_owner(control_plane: Access, namespace: str) -> None:
    control_plane.apply(_config_map(namespace, "owner"))
    owner = control_plane.get("configmap", "owner", namespace)
    assert owner is not None
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}
    control_plane.apply(_config_map(namespace, "owned", ownerReferences=[reference]))
    control_plane.delete("configmap", "owner", namespace)
    control_plane.wait_for(
        lambda: control_plane.get("configmap", "owned", namespace) is None, what="the owned object to be deleted"
    )


def test_the_objects_of_a_namespace_are_deleted_with_it(control_plane: Access) -> None:
    control_plane.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "test-deleted"}})
    control_plane.apply(_config_map("test-deleted", "inside"))
    control_plane.delete("namespace", "test-deleted")
    assert control_plane.get("namespace", "test-deleted") is None
    assert control_plane.get("configmap", "inside", "test-deleted") is None


def test_a_service_account_has_only_the_permissions_of_its_role(
    control_plane: Access, namespace: str, tmp_path: Any
) -> None:
    meta = {"name": "reader", "namespace": namespace}
    role_ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"}
    control_plane.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": meta,
            "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": meta,
            "roleRef": role_ref,
            "subjects": [{"kind": "ServiceAccount", **meta}],
        },
        _config_map(namespace, "read-me"),
    )
    reader = Access(control_plane.kubeconfig_of("reader", namespace, tmp_path / "reader.kubeconfig"))
    control_plane.wait_for(lambda: reader.get("configmap", "read-me", namespace), what="the role to take effect")
    with pytest.raises(KubectlError, match="forbidden"):
        reader.list("secrets", namespace)


def test_a_killed_api_server_restarts_with_its_objects(own_control_plane: ControlPlane, namespace: str) -> None:
    own_control_plane.apply(_config_map(namespace, "kept"))
    own_control_plane.api_server.kill()
    assert not own_control_plane.ready()
    started = time.monotonic()
    own_control_plane.start_api_server()
    assert time.monotonic() - started < 60
    assert own_control_plane.get("configmap", "kept", namespace) is not None
