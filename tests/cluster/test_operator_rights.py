"""The operator has exactly the permissions that it uses, by the audit log of the API server."""

import json
from typing import Any

from devtools.kubernetes.control_plane import ControlPlane
from tests.support.operator import ACCOUNT, rules
from tests.support.operator_world import (
    DELETED,
    RECREATED,
    RELEASE,
    TENANTS,
    WATCHED,
    OperatorCluster,
)

Permission = tuple[str, str, str]


def granted() -> set[Permission]:
    """Return every permission of the operator, as API group, resource and verb."""
    return {
        (group, resource, verb)
        for entry in rules(RELEASE, WATCHED)
        if entry["kind"] in ("Role", "ClusterRole")
        for rule in entry["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def used(records: list[dict[str, Any]]) -> set[Permission]:
    """Return the permissions that requests needed."""
    found = set()
    for record in records:
        target = record["objectRef"]
        resource = "/".join(part for part in (target["resource"], target.get("subresource")) if part)
        found.add((target.get("apiGroup", ""), resource, record["verb"]))
        if record["verb"] == "patch" and record.get("responseStatus", {}).get("code") == 201:
            # An apply that creates the object needs the permission to create, which the log does not mention.
            found.add((target.get("apiGroup", ""), resource, "create"))
    return found


async def test_the_roles_equal_the_permissions_in_use(own_control_plane: ControlPlane, world: OperatorCluster) -> None:
    # An earlier test restarts the API server, which rejects every request for a moment after its start.
    earlier = len(own_control_plane.audit_log.read_text().splitlines())
    name = world.name()
    dedicated = {"lane": "dedicated", "maxReplicas": 1}
    await world.kube.make(TENANTS, name, priority=dedicated, apiKey={"rotation": {"gracePeriod": "1s"}})
    await world.kube.ready(TENANTS, name)
    await world.kube.change(TENANTS, name, priority=None, apiKey={"secretName": f"{name}-moved"})

    async def moved() -> bool:
        return await world.kube.secret(TENANTS, f"{name}-imago") is None

    await world.kube.until(moved, what="the old Secret to go", of=(TENANTS, name))
    await world.kube.ready(TENANTS, name)
    await world.kube.drop(TENANTS, name)
    await world.kube.gone(TENANTS, name)

    user = f"system:serviceaccount:{RELEASE}:{ACCOUNT}"
    lines = own_control_plane.audit_log.read_text().splitlines()

    def calls_in(some: list[str]) -> list[dict[str, Any]]:
        records = [json.loads(line) for line in some if line.strip()]
        return [record for record in records if record["user"]["username"] == user and "objectRef" in record]

    calls = calls_in(lines)
    assert used(calls) == granted()
    rejected = [
        f"{record['verb']} {record['requestURI']}"
        for record in calls_in(lines[earlier:])
        if record.get("responseStatus", {}).get("code") == 403
        # Their Roles were deleted with them.
        and record["objectRef"].get("namespace") not in (DELETED, RECREATED)
    ]
    assert rejected == []
    secrets = [record for record in calls if record["objectRef"]["resource"] == "secrets"]
    assert all(record["objectRef"].get("namespace") in WATCHED for record in secrets)
