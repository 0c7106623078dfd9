"""The handlers that Kopf calls: which resources, how soon, and what happens after a failure."""

from datetime import timedelta
from typing import Any

import kopf
import pytest
import structlog

from imago.core.times import utc_now
from imago_operator.apis.kubernetes import KubernetesUnavailable
from imago_operator.handlers import Handlers, build_registry
from imago_operator.sweep import Sweeper
from tests.support.operator_fakes import FakeWorld, resource

IMAGOCLIENTS = "/apis/imago.dev/v1alpha1/namespaces/photos/imagoclients"


@pytest.fixture
def world() -> FakeWorld:
    return FakeWorld()


async def handlers_of(world: FakeWorld) -> tuple[Handlers, Sweeper]:
    context = world.operator()
    sweeper = Sweeper(context)
    return Handlers(context, sweeper), sweeper


async def test_resources_of_another_installation_are_left_to_its_operator(world: FakeWorld) -> None:
    handlers, _ = await handlers_of(world)
    assert handlers.is_responsible(kopf.Spec({"spec": {}}))
    assert handlers.is_responsible(kopf.Spec({"spec": {"installation": "default"}}))
    assert not handlers.is_responsible(kopf.Spec({"spec": {"installation": "second"}}))


async def test_a_restored_resource_is_reconciled_immediately_although_kopf_takes_it_for_handled(
    world: FakeWorld,
) -> None:
    handlers, _ = await handlers_of(world)
    handled = {"operator.imago.dev/last-handled-configuration": "{}"}
    restored = kopf.Body(resource("a", annotations=handled))
    assert handlers.initial_delay(restored) == 0
    known = kopf.Body({**resource("a", annotations=handled), "status": {"clientId": "x"}})
    assert 0 < handlers.initial_delay(known) <= 30


async def test_retries_back_off_up_to_half_a_minute(world: FakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    handlers, _ = await handlers_of(world)
    body = resource("a")
    world.kubernetes.add(body)
    world.faults.api_unavailable = True
    delays = []
    with structlog.testing.capture_logs() as logs:
        for retry in (0, 3, 50):
            with pytest.raises(kopf.TemporaryError) as caught:
                await handlers.handle_change(kopf.Body(body), retry=retry)
            delays.append(caught.value.delay)
    assert delays[0] <= 1 < delays[1] <= 8 < delays[2] <= 30
    assert {(entry["event"], entry["reason"]) for entry in logs} == {("reconcile.deferred", "ApiUnavailable")}

    async def unavailable(path: str) -> Any:
        raise KubernetesUnavailable("no reply")

    monkeypatch.setattr(world.kubernetes, "get", unavailable)
    with structlog.testing.capture_logs() as logs, pytest.raises(kopf.TemporaryError):
        await handlers.handle_deletion(kopf.Body(body), retry=0)
    assert [entry["event"] for entry in logs] == ["reconcile.failed"]


async def test_liveness_fails_when_the_sweeper_has_stopped(world: FakeWorld) -> None:
    handlers, _ = await handlers_of(world)
    assert await handlers.probe() == "alive"
    world.now += 10_000
    with pytest.raises(kopf.PermanentError, match="stopped"):
        await handlers.probe()


async def test_a_resource_that_is_not_reconciled_is_reported_until_it_is(world: FakeWorld) -> None:
    handlers, sweeper = await handlers_of(world)
    old, foreign, new = resource("old"), resource("foreign", installation="second"), resource("new")
    for body in (old, foreign):
        body["metadata"]["creationTimestamp"] = (utc_now() - timedelta(hours=1)).isoformat()
        world.kubernetes.add(body)
    new["metadata"]["creationTimestamp"] = utc_now().isoformat()
    world.kubernetes.objects[IMAGOCLIENTS] = {"items": [old, foreign, new]}
    await sweeper.choose_namespaces()
    await sweeper.run_once()
    assert sweeper.problem() is None, "this process has just started"
    world.now += 400
    await sweeper.run_once()
    assert sweeper.problem() == "photos/old is not being reconciled"
    await handlers.handle_interval(kopf.Body(old), retry=0)
    await sweeper.run_once()
    assert sweeper.problem() is None


async def test_the_ids_under_which_kopf_stores_progress_do_not_change(world: FakeWorld) -> None:
    handlers, _ = await handlers_of(world)
    registry = build_registry(handlers, resync_seconds=30)
    assert {handler.id for handler in registry._changing.get_all_handlers()} == {
        *("reconcile", "finalize", "reconcile-job", "finalize-job"),
    }
    timers = [(handler.id, handler.interval) for handler in registry._spawning.get_all_handlers()]
    assert timers == [("interval", 30), ("interval-job", 10)]
