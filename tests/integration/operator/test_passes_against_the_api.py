"""The operator's passes against Imago's real API and JetStream; Kubernetes alone is in memory."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
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
from imago_operator.deletion import finalize
from imago_operator.imago_api import ImagoApi
from imago_operator.reconcile import reconcile
from tests.integration.api.conftest import OPERATOR_KEY, Api, serve
from tests.support.operator import condition, decoded
from tests.support.operator_fakes import Memory, imc_path, owner, resource


@pytest.fixture(autouse=True)
def _no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_cache, "MAX_AGE", 0.0)


@pytest.fixture
async def api(db: Database, tmp_path: Path) -> AsyncIterator[Api]:
    """A served API, once on each database."""
    served = await serve(db, tmp_path / "objects")
    yield served
    await served.http.close()


@pytest.fixture
async def world(api: Api) -> AsyncIterator[Memory]:
    """Kubernetes in memory, and the real API."""
    memory = Memory()
    url = str(api.http.make_url("/")).rstrip("/")
    async with ImagoApi(url, OPERATOR_KEY, timeout=10, parallel=4) as real:
        memory.api = real  # type: ignore[assignment]
        yield memory


def status(world: Memory, name: str = "atelier") -> dict[str, Any]:
    found: dict[str, Any] = world.kubernetes.objects[imc_path(name)]["status"]
    return found


def key_in(world: Memory, name: str = "atelier-imago") -> str:
    secret = world.kubernetes.secret(name)
    assert secret is not None
    return decoded(secret)["api-key"]


async def opens(api: Api, key: str) -> bool:
    return (await api.call("GET", "/auth/me", key=key))[0] == 200


async def test_a_key_is_issued_rotated_and_ended_by_the_api_as_the_secret_says(api: Api, world: Memory) -> None:
    body = resource("atelier", plan="premium", quota={"images": 7}, apiKey={"rotation": {"gracePeriod": "0s"}})
    ref = world.kubernetes.add(body)
    await reconcile(world.operator(), ref)
    first = key_in(world)
    code, me = await api.call("GET", "/auth/me", key=first)
    assert (code, me["plan"], me["limits"]["images"], me["client"]["uuid"]) == (200, "premium", 7, ref.uid)
    assert condition({"status": status(world)}, "Ready")["status"] == "True"
    body["metadata"]["annotations"]["imago.dev/rotate"] = "now"
    await reconcile(world.operator(), ref)
    second = key_in(world)
    assert first != second
    assert await opens(api, second)
    assert not await opens(api, first), "without a grace it ends at once"
    _, detail = await api.call("GET", f"/auth/clients/{ref.uid}")
    assert detail["owner"] == owner("atelier")
    assert [key["key_id"] for key in detail["keys"] if key["expires_at"] is None] == [second.split("_")[1]]


async def test_the_same_key_opens_again_after_the_client_was_set_back(api: Api, world: Memory) -> None:
    ref = world.kubernetes.add(resource("atelier"))
    await reconcile(world.operator(), ref)
    key = key_in(world)
    await api.call("DELETE", f"/auth/clients/{ref.uid}")
    assert not await opens(api, key)
    await reconcile(world.operator(), ref)
    assert await opens(api, key)
    code, _ = await api.call("DELETE", f"/auth/clients/{ref.uid}/keys/{key.split('_')[1]}", key=OPERATOR_KEY)
    assert code == 204
    await reconcile(world.operator(), ref)
    assert key_in(world) != key, "a revoked key never comes back"
    assert await opens(api, key_in(world))


async def test_owners_are_held_apart_by_the_api(api: Api, world: Memory) -> None:
    first = world.kubernetes.add(resource("atelier"))
    await reconcile(world.operator(), first)
    thief = world.kubernetes.add(resource("thief", clientId=first.uid, deletionPolicy="Delete"))
    await reconcile(world.operator(), thief)
    assert condition({"status": status(world, "thief")}, "Ready")["reason"] == "AdoptionRefused"
    await api.call("PATCH", f"/auth/clients/{first.uid}", json={"owner": owner("thief")})
    await reconcile(world.operator(), thief)
    assert await opens(api, key_in(world, "thief-imago"))
    assert not await opens(api, key_in(world)), "what the owner before holds opens nothing"
    await finalize(world.operator(), first)
    assert await opens(api, key_in(world, "thief-imago"))


@pytest.mark.parametrize("policy", ["Retain", "Delete"])
async def test_a_deletion_deactivates_or_asks_for_the_erasure(api: Api, world: Memory, policy: str) -> None:
    ref = world.kubernetes.add(resource("atelier", deletionPolicy=policy))
    await reconcile(world.operator(), ref)
    key = key_in(world)
    result = await finalize(world.operator(), ref)
    code, detail = await api.call("GET", f"/auth/clients/{ref.uid}")
    assert (code, detail["active"]) == (200, False)
    assert (detail["erasure"] is not None) == (result.again is not None) == (policy == "Delete")
    assert not await opens(api, key)


async def test_a_wrong_key_of_the_operators_is_told_in_words_and_never_shown(api: Api, world: Memory) -> None:
    ref = world.kubernetes.add(resource("atelier"))
    async with ImagoApi(str(api.http.make_url("")).rstrip("/"), "not the key", timeout=10, parallel=1) as wrong:
        world.api = wrong  # type: ignore[assignment]
        await reconcile(world.operator(), ref)
    found = condition({"status": status(world)}, "Ready")
    assert (found["status"], found["reason"]) == ("False", "ApiRefused")
    assert "OPERATOR_API_KEY" in found["message"]
    assert "not the key" not in found["message"]


async def test_the_keeper_of_the_topology_makes_lanes_and_takes_them_away(
    nats: NatsConnection, nats_server: NatsServer
) -> None:
    keeper = StreamManager(Settings(nats_url=(nats_server.url,)), name="operator")
    with pytest.raises(StreamsUnavailable):
        await keeper.ensure_lane("0" * 32)
    await keeper.start()
    lane = UUID(int=5).hex

    async def made() -> bool:
        try:
            await keeper.ensure_lane(lane)
        except StreamsUnavailable:
            return False
        return True

    await until(made, what="the connection to stand")
    info = await nats.js.consumers_info(work_stream(lane))
    assert {consumer.name for consumer in info} == {str(stage) for stage in STAGES}
    advisories = await nats.js.stream_info(ADVISORIES_STREAM)
    assert any(lane in subject for subject in advisories.config.subjects or ()), "its dead letters are heard of"
    await keeper.ensure_all()
    assert await keeper.lane_exists(lane)
    await keeper.delete_lane(lane)
    await keeper.delete_lane(lane)
    assert not await keeper.lane_exists(lane)
    with pytest.raises(NotFoundError):
        await nats.js.stream_info(work_stream(lane))
    await keeper.close()
