"""Reconciliation with Imago's real API and JetStream; only Kubernetes is a fake."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest
from nats.js.errors import NotFoundError

from devtools.nats import NatsServer
from devtools.waiting import until
from imago.api.auth import key_cache
from imago.core.jobs.stages import STAGES
from imago.core.outbox.subjects import ADVISORIES_STREAM, work_stream
from imago.db.engine import Database
from imago.nats.connection import NatsConnection
from imago.nats.streams import StreamManager, StreamsUnavailable
from imago.settings import Settings
from imago_operator.apis.imago_api import ImagoApi
from imago_operator.reconciler.deletion import finalize
from imago_operator.reconciler.reconcile import reconcile
from tests.integration.api.conftest import OPERATOR_KEY, Api, serve
from tests.support.operator import condition, decoded
from tests.support.operator_fakes import FakeWorld, owner, resource


@pytest.fixture(autouse=True)
def _no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_cache, "MAX_AGE", 0.0)


@pytest.fixture
async def api(db: Database, tmp_path: Path) -> AsyncIterator[Api]:
    """A running API, once on each database."""
    served = await serve(db, tmp_path / "objects")
    yield served
    await served.http.close()


@pytest.fixture
async def world(api: Api) -> AsyncIterator[FakeWorld]:
    """A fake Kubernetes with the real API."""
    fake = FakeWorld()
    url = str(api.http.make_url("/")).rstrip("/")
    async with ImagoApi(url, OPERATOR_KEY, timeout=10, parallel=4) as real:
        fake.api = real  # type: ignore[assignment]
        yield fake


def key_in_secret(world: FakeWorld, name: str = "atelier-imago") -> str:
    secret = world.kubernetes.secret(name)
    assert secret is not None
    return decoded(secret)["api-key"]


async def is_accepted(api: Api, key: str) -> bool:
    return (await api.call("GET", "/auth/me", key=key))[0] == 200


async def test_the_api_accepts_the_key_in_the_secret_and_rejects_a_rotated_one(api: Api, world: FakeWorld) -> None:
    body = resource("atelier", plan="premium", quota={"images": 7}, apiKey={"rotation": {"gracePeriod": "0s"}})
    ref = world.kubernetes.add(body)
    await reconcile(world.operator(), ref)
    first = key_in_secret(world)
    code, me = await api.call("GET", "/auth/me", key=first)
    assert (code, me["plan"], me["limits"]["images"], me["client"]["uuid"]) == (200, "premium", 7, ref.uid)
    assert condition(world.body(), "Ready")["status"] == "True"
    body["metadata"]["annotations"]["imago.dev/rotate"] = "now"
    await reconcile(world.operator(), ref)
    second = key_in_secret(world)
    assert first != second
    assert await is_accepted(api, second)
    assert not await is_accepted(api, first), "without a grace period it is rejected immediately"
    _, detail = await api.call("GET", f"/auth/clients/{ref.uid}")
    assert detail["owner"] == owner("atelier")
    assert [key["key_id"] for key in detail["keys"] if key["expires_at"] is None] == [second.split("_")[1]]


async def test_the_same_key_is_accepted_again_after_the_client_was_deactivated_by_hand(
    api: Api, world: FakeWorld
) -> None:
    ref = world.kubernetes.add(resource("atelier"))
    await reconcile(world.operator(), ref)
    key = key_in_secret(world)
    await api.call("DELETE", f"/auth/clients/{ref.uid}")
    assert not await is_accepted(api, key)
    await reconcile(world.operator(), ref)
    assert await is_accepted(api, key)
    code, _ = await api.call("DELETE", f"/auth/clients/{ref.uid}/keys/{key.split('_')[1]}", key=OPERATOR_KEY)
    assert code == 204
    await reconcile(world.operator(), ref)
    assert key_in_secret(world) != key, "a revoked key is never registered again"
    assert await is_accepted(api, key_in_secret(world))


async def test_the_api_keeps_owners_apart(api: Api, world: FakeWorld) -> None:
    first = world.kubernetes.add(resource("atelier"))
    await reconcile(world.operator(), first)
    thief = world.kubernetes.add(resource("thief", clientId=first.uid, deletionPolicy="Delete"))
    await reconcile(world.operator(), thief)
    assert world.ready_reason("thief") == "AdoptionRefused"
    await api.call("PATCH", f"/auth/clients/{first.uid}", json={"owner": owner("thief")})
    await reconcile(world.operator(), thief)
    assert await is_accepted(api, key_in_secret(world, "thief-imago"))
    assert not await is_accepted(api, key_in_secret(world)), "the key of the previous owner is rejected"
    await finalize(world.operator(), first)
    assert await is_accepted(api, key_in_secret(world, "thief-imago"))


@pytest.mark.parametrize("policy", ["Retain", "Delete"])
async def test_a_deletion_deactivates_the_client_or_starts_its_erasure(api: Api, world: FakeWorld, policy: str) -> None:
    ref = world.kubernetes.add(resource("atelier", deletionPolicy=policy))
    await reconcile(world.operator(), ref)
    key = key_in_secret(world)
    result = await finalize(world.operator(), ref)
    code, detail = await api.call("GET", f"/auth/clients/{ref.uid}")
    assert (code, detail["active"]) == (200, False)
    assert (detail["erasure"] is not None) == (not result.is_finished) == (policy == "Delete")
    assert not await is_accepted(api, key)


async def test_a_wrong_operator_key_is_reported_without_the_key(api: Api, world: FakeWorld) -> None:
    ref = world.kubernetes.add(resource("atelier"))
    async with ImagoApi(str(api.http.make_url("")).rstrip("/"), "not the key", timeout=10, parallel=1) as wrong:
        world.api = wrong  # type: ignore[assignment]
        await reconcile(world.operator(), ref)
    ready = condition(world.body(), "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "ApiRefused")
    assert "OPERATOR_API_KEY" in ready["message"]
    assert "not the key" not in ready["message"]


async def test_the_stream_manager_creates_and_deletes_lanes(nats: NatsConnection, nats_server: NatsServer) -> None:
    manager = StreamManager(Settings(nats_url=(nats_server.url,)), name="operator")
    with pytest.raises(StreamsUnavailable):
        await manager.ensure_lane("0" * 32)
    await manager.start()
    lane = UUID(int=5).hex

    async def created() -> bool:
        try:
            await manager.ensure_lane(lane)
        except StreamsUnavailable:
            return False
        return True

    await until(created, what="the connection to NATS")
    info = await nats.js.consumers_info(work_stream(lane))
    assert {consumer.name for consumer in info} == {str(stage) for stage in STAGES}
    advisories = await nats.js.stream_info(ADVISORIES_STREAM)
    assert any(lane in subject for subject in advisories.config.subjects or ()), "its dead letters are recorded"
    await manager.ensure_all()
    assert await manager.lane_exists(lane)
    await manager.delete_lane(lane)
    await manager.delete_lane(lane)
    assert not await manager.lane_exists(lane)
    with pytest.raises(NotFoundError):
        await nats.js.stream_info(work_stream(lane))
    await manager.close()
