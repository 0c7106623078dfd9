"""The control plane that the other tests rest on does what they take for granted."""

import time
from typing import Any

import pytest

from devtools.kubernetes.access import Access, KubectlError
from devtools.kubernetes.control_plane import ControlPlane


def _config_map(namespace: str, name: str, **more: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace, **more}}


def test_what_an_owner_owns_is_collected_with_it(control_plane: Access, namespace: str) -> None:
    control_plane.apply(_config_map(namespace, "owner"))
    owner = control_plane.get("configmap", "owner", namespace)
    assert owner is not None
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}
    control_plane.apply(_config_map(namespace, "owned", ownerReferences=[reference]))
    control_plane.delete("configmap", "owner", namespace)
    control_plane.wait_for(
        lambda: control_plane.get("configmap", "owned", namespace) is None, what="the owned object to be collected"
    )


def test_a_namespace_goes_with_all_that_is_in_it(control_plane: Access) -> None:
    control_plane.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "test-going"}})
    control_plane.apply(_config_map("test-going", "inside"))
    control_plane.delete("namespace", "test-going")
    assert control_plane.get("namespace", "test-going") is None
    assert control_plane.get("configmap", "inside", "test-going") is None


def test_a_service_account_may_do_what_its_role_says_and_no_more(
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
    control_plane.wait_for(lambda: reader.get("configmap", "read-me", namespace), what="the role to be in force")
    with pytest.raises(KubectlError, match="forbidden"):
        reader.list("secrets", namespace)


def test_a_killed_api_server_comes_back_with_what_it_stored(own_control_plane: ControlPlane, namespace: str) -> None:
    own_control_plane.apply(_config_map(namespace, "kept"))
    own_control_plane.api_server.kill()
    assert not own_control_plane.ready()
    began = time.monotonic()
    own_control_plane.start_api_server()
    assert time.monotonic() - began < 60
    assert own_control_plane.get("configmap", "kept", namespace) is not None
