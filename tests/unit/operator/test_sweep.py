"""The namespaces that the operator watches, as its Roles come and go."""

import asyncio
from typing import Any

import pytest

from imago_operator import sweep
from imago_operator.apis.kubernetes import KubernetesRefused
from imago_operator.sweep import Sweeper
from tests.support.operator_fakes import FakeWorld


async def test_a_namespace_that_cannot_be_read_does_not_affect_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "NAMESPACES_SECONDS", 0.01)
    world = FakeWorld(watch_namespaces="a,b")
    forbidden = {"a", "b"}

    async def get(path: str) -> Any:
        if any(f"/namespaces/{name}/" in path for name in forbidden):
            raise KubernetesRefused("forbidden")
        return {"items": []}

    monkeypatch.setattr(world.kubernetes, "get", get)
    sweeper = Sweeper(world.operator())
    waiting = asyncio.create_task(sweeper.choose_namespaces())
    await asyncio.sleep(0.05)
    assert not waiting.done(), "no namespace can be read yet"
    forbidden.remove("a")
    assert await waiting == ("a",)
    await sweeper.run_once()
    assert not sweeper.namespaces_changed.is_set()
    forbidden.remove("b")
    await sweeper.run_once()
    assert sweeper.namespaces_changed.is_set(), "Kopf has to be restarted with both"
    assert await sweeper.choose_namespaces() == ("a", "b")
    assert not sweeper.namespaces_changed.is_set()
