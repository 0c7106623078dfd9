"""From `kubectl apply` to a working key, and each transition of a client's life, on a real API server."""

from tests.cluster.operator_fixtures import TENANTS, World, operator_process, platform, world
from tests.support.operator import condition

__all__ = ["operator_process", "platform", "world"]


async def test_the_secrets_key_uploads_an_image_with_quota_and_rate_limit_in_force(world: World) -> None:
    name = world.name()
    await world.kube.make(
        TENANTS,
        name,
        plan="standard",
        quota={"images": 2, "storage": "1Mi"},
        rateLimit={"requestsPerMinute": 1, "burst": 8},
        scopes=["images:read", "images:write"],
    )
    ready = await world.kube.ready(TENANTS, name)
    status = ready["status"]
    secret = await world.kube.secret(TENANTS, f"{name}-imago")
    assert secret is not None
    assert set(secret) == {"api-key", "client-id", "url"}
    assert secret["client-id"] == status["clientId"] == ready["metadata"]["uid"]
    assert secret["api-key"].split("_")[1] == status["apiKey"]["keyId"]
    assert status["binding"] == {"name": f"{name}-imago"}
    key = secret["api-key"]
    code, me = await world.imago.ask("GET", "/auth/me", key=key)
    assert (code, me["plan"], me["limits"]["images"], me["limits"]["storage_bytes"]) == (200, "standard", 2, 2**20)
    assert sorted(me["scopes"]) == ["images:read", "images:write"]
    codes = [(await world.imago.upload(key))[0] for _ in range(3)]
    assert codes == [201, 201, 413]
    limited = [(await world.imago.ask("GET", "/auth/me", key=key))[0] for _ in range(6)]
    assert 429 in limited
    assert all(condition(ready, kind)["status"] == "True" for kind in ("CredentialsIssued", "QuotaApplied"))
