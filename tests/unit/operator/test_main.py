"""What Kopf is told, and what the background work watches over."""

import asyncio
import logging
from datetime import timedelta
from typing import Any

import kopf
import pytest

from imago.core.times import utc_now
from imago_operator import sweep
from imago_operator.kubernetes import KubernetesUnavailable, Refused
from imago_operator.main import Handlers, ObjectNames, build_kopf_settings, build_registry
from imago_operator.sweep import Sweeper
from tests.support.operator_fakes import Memory, resource

IMAGOCLIENTS = "/apis/imago.dev/v1alpha1/namespaces/photos/imagoclients"


@pytest.fixture
def world() -> Memory:
    return Memory()


def handlers(world: Memory) -> tuple[Handlers, Sweeper, Any]:
    context = world.operator()
    sweeper = Sweeper(context)
    return Handlers(context, sweeper), sweeper, context


async def test_resources_of_another_installation_are_left_to_its_operator(world: Memory) -> None:
    ours, _, _ = handlers(world)
    assert ours.serves(kopf.Spec({"spec": {}}))
    assert ours.serves(kopf.Spec({"spec": {"installation": "default"}}))
    assert not ours.serves(kopf.Spec({"spec": {"installation": "second"}}))


async def test_a_restored_resource_is_looked_at_at_once_although_kopf_takes_it_for_handled(world: Memory) -> None:
    ours, _, context = handlers(world)
    handled = {"operator.imago.dev/last-handled-configuration": "{}"}
    restored = kopf.Body(resource("a", annotations=handled))
    assert ours.first_look(restored) == 0
    known = kopf.Body({**resource("a", annotations=handled), "status": {"clientId": "x"}})
    assert 0 < ours.first_look(known) <= context.settings.resync_seconds


async def test_a_failure_is_tried_again_later_and_later_and_never_longer_than_half_a_minute(
    world: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, _, _ = handlers(world)
    body = resource("a")
    world.kubernetes.add(body)
    world.faults.away = True
    delays = []
    for retry in (0, 3, 50):
        with pytest.raises(kopf.TemporaryError) as caught:
            await ours.handle_change(kopf.Body(body), retry=retry)
        delays.append(caught.value.delay)
    assert delays[0] <= 1 < delays[1] <= 8 < delays[2] <= 30

    async def away(path: str) -> Any:
        raise KubernetesUnavailable("no answer")

    monkeypatch.setattr(world.kubernetes, "get", away)
    with pytest.raises(kopf.TemporaryError):
        await ours.handle_deletion(kopf.Body(body), retry=0)


async def test_kopf_is_told_of_every_trigger_once(world: Memory) -> None:
    ours, _, _ = handlers(world)
    registry = build_registry(ours, resync_seconds=30)
    assert {handler.id for handler in registry._changing.get_all_handlers()} == {"reconcile", "finalize"}
    assert [handler.interval for handler in registry._spawning.get_all_handlers()] == [30]


def test_what_is_stored_in_resources_is_as_it_must_stay_for_ever() -> None:
    persistence = build_kopf_settings().persistence
    assert persistence.finalizer == "imago.dev/finalizer"
    for storage in (persistence.progress_storage, persistence.diffbase_storage):
        assert storage.prefix == "operator.imago.dev"  # type: ignore[attr-defined]


def test_what_kopf_logs_about_a_resource_names_it() -> None:
    record = logging.LogRecord("kopf.objects", logging.INFO, "", 0, "Patching failed", None, None)
    record.k8s_ref = {"namespace": "photos", "name": "atelier"}
    assert ObjectNames().filter(record)
    assert ObjectNames().filter(record)
    assert record.getMessage() == "[photos/atelier] Patching failed"


async def test_liveness_fails_when_the_background_work_has_stopped(world: Memory) -> None:
    ours, sweeper, _ = handlers(world)
    assert await ours.probe() == "alive"
    sweeper._last -= 10_000
    with pytest.raises(kopf.PermanentError, match="stopped"):
        await ours.probe()


async def test_liveness_fails_when_nothing_looks_at_a_resource_any_more(world: Memory) -> None:
    ours, sweeper, _ = handlers(world)
    old, paused = resource("old"), resource("theirs", installation="second")
    for body in (old, paused):
        body["metadata"]["creationTimestamp"] = (utc_now() - timedelta(hours=1)).isoformat()
        world.kubernetes.add(body)
    young = resource("young")
    young["metadata"]["creationTimestamp"] = utc_now().isoformat()
    world.kubernetes.objects[IMAGOCLIENTS] = {"items": [old, paused, young]}
    sweeper._served = ("photos",)
    await sweeper.run_once()
    assert sweeper.trouble() is None, "this process has only begun"
    sweeper._started -= 10_000
    await sweeper.run_once()
    assert sweeper.trouble() == "nothing has looked at photos/old"
    await ours.handle_interval(kopf.Body(old), retry=0)
    await sweeper.run_once()
    assert sweeper.trouble() is None


async def test_a_namespace_that_can_not_be_read_keeps_no_other_from_being_served(
    world: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "NAMESPACES_SECONDS", 0.01)
    context = world.operator()
    object.__setattr__(context, "settings", context.settings.model_copy(update={"watch_namespaces": ("a", "b")}))
    forbidden = {"a", "b"}

    async def get(path: str) -> Any:
        if any(f"/namespaces/{name}/" in path for name in forbidden):
            raise Refused("forbidden")
        return {"items": []}

    monkeypatch.setattr(world.kubernetes, "get", get)
    sweeper = Sweeper(context)
    waiting = asyncio.create_task(sweeper.choose_namespaces())
    await asyncio.sleep(0.05)
    assert not waiting.done(), "there is nothing to serve yet"
    forbidden.remove("a")
    assert await waiting == ("a",)
    await sweeper.run_once()
    assert not sweeper.namespaces_changed.is_set()
    forbidden.remove("b")
    await sweeper.run_once()
    assert sweeper.namespaces_changed.is_set(), "Kopf is started anew, with the other one"
    assert await sweeper.choose_namespaces() == ("a", "b")
    assert not sweeper.namespaces_changed.is_set()
