"""A child process that dies, hangs or gorges takes nothing with it."""

import asyncio
import errno
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from imago.core.jobs.failures import PermanentFailure, StageFailure, TransientFailure
from imago.imaging.sandbox.pool import ChildPool, time_limit

TASKS = ("double", "refuse", "crash", "burn", "sleep", "nap", "gorge", "map_much", "bug", "fill")


@pytest.fixture
async def pool(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ChildPool]:
    monkeypatch.setenv("PYTHONPATH", ".")
    children = make_pool(size=2)
    yield children
    await children.close()


def make_pool(*, size: int) -> ChildPool:
    extra = tuple(f"{name}=tests.support.child_tasks:{name}" for name in TASKS)
    return ChildPool(size=size, memory_mb=512, cpu_seconds=1, extra_tasks=extra)


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
        ("map_much", PermanentFailure, "out-of-memory"),
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


async def test_a_machine_without_room_is_no_failure_of_the_image(pool: ChildPool) -> None:
    with pytest.raises(OSError, match="No space left") as raised:
        await pool.run("fill", {}, timeout=20)
    assert raised.value.errno == errno.ENOSPC


async def test_a_machine_without_processes_is_no_failure_of_the_image(
    pool: ChildPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    with monkeypatch.context() as patch:
        patch.setattr("asyncio.create_subprocess_exec", refuse)
        with pytest.raises(BlockingIOError):
            await pool.run("double", {"number": 1}, timeout=20)
    assert await pool.run("double", {"number": 1}, timeout=20) == 2


async def test_waiting_for_a_turn_is_not_a_tasks_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", ".")
    one = make_pool(size=1)
    await one.run("double", {"number": 1}, timeout=20)

    async def job() -> None:
        async with time_limit(2):
            await one.run("nap", {"seconds": 0.6}, timeout=20)

    # The last of them waits longer than all its time.
    await asyncio.gather(*(job() for _ in range(5)))
    await one.close()


async def test_a_tasks_own_time_ends(pool: ChildPool) -> None:
    with pytest.raises(TimeoutError):
        async with time_limit(0.2):
            await pool.run("sleep", {}, timeout=60)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems don't choose by a score")
async def test_the_kernel_kills_a_child_before_its_worker(pool: ChildPool) -> None:
    await pool.run("double", {"number": 1}, timeout=20)
    child = next(iter(pool._alive))
    assert Path(f"/proc/{child.pid}/oom_score_adj").read_text().strip() == "1000"


async def test_no_secret_reaches_a_childs_environment(pool: ChildPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADMIN_API_KEY", "secret")
    await pool.run("double", {"number": 1}, timeout=20)
    child = next(iter(pool._alive))
    assert b"ADMIN_API_KEY" not in Path(f"/proc/{child.pid}/environ").read_bytes()
