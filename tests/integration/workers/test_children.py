"""A child process that dies, hangs or gorges takes nothing with it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from imago.domain.failures import PermanentFailure, StageFailure, TransientFailure
from imago.workers.children import ChildPool

TASKS = ("double", "refuse", "crash", "burn", "sleep", "gorge", "bug")


@pytest.fixture
async def pool(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ChildPool]:
    monkeypatch.setenv("PYTHONPATH", ".")
    extra = tuple(f"{name}=tests.support.child_tasks:{name}" for name in TASKS)
    children = ChildPool(size=2, memory_mb=512, cpu_seconds=1, extra_tasks=extra)
    yield children
    await children.close()


async def test_results_come_back_although_libraries_print(pool: ChildPool) -> None:
    numbers = await asyncio.gather(*(pool.run("double", {"number": number}, timeout=20) for number in range(8)))
    assert numbers == [0, 2, 4, 6, 8, 10, 12, 14]


@pytest.mark.parametrize(
    ("task", "kind", "code"),
    [
        ("refuse", PermanentFailure, "bad-image"),
        ("crash", TransientFailure, "child-died"),
        ("burn", TransientFailure, "cpu-limit"),
        ("gorge", PermanentFailure, "out-of-memory"),
        ("bug", TransientFailure, "internal-error"),
        ("sleep", TransientFailure, "stage-timeout"),
    ],
)
async def test_what_goes_wrong_in_a_child_stays_there(
    pool: ChildPool, task: str, kind: type[StageFailure], code: str
) -> None:
    with pytest.raises(kind) as failure:
        await pool.run(task, {}, timeout=1.0 if task == "sleep" else 20)
    assert failure.value.code == code
    assert "/secret" not in failure.value.text
    assert await pool.run("double", {"number": 4}, timeout=20) == 8


async def test_a_cancelled_task_frees_its_place(pool: ChildPool) -> None:
    for _ in range(3):
        job = asyncio.create_task(pool.run("sleep", {}, timeout=60))
        await asyncio.sleep(0.05)
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
    assert await pool.run("double", {"number": 1}, timeout=20) == 2


async def test_no_secret_reaches_a_childs_environment(pool: ChildPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADMIN_API_KEY", "secret")
    await pool.run("double", {"number": 1}, timeout=20)
    child = next(iter(pool._alive))
    assert b"ADMIN_API_KEY" not in Path(f"/proc/{child.pid}/environ").read_bytes()
