"""A child process that dies, hangs or uses too much does not affect the worker or other tasks."""

import asyncio
import errno
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from imago.core.jobs.failures import PermanentFailure, StageFailure, TransientFailure
from imago.imaging.sandbox.pool import ChildPool, time_limit
from tests.support import child_tasks

TASKS = tuple(name for name, value in vars(child_tasks).items() if getattr(value, "__module__", "").endswith("tasks"))


@pytest.fixture
async def pool(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ChildPool]:
    monkeypatch.setenv("PYTHONPATH", ".")
    children = make_pool(size=2)
    yield children
    await children.close()


def make_pool(*, size: int) -> ChildPool:
    extra = tuple(f"{name}=tests.support.child_tasks:{name}" for name in TASKS)
    return ChildPool(size=size, memory_mb=512, cpu_seconds=1, extra_tasks=extra)


async def test_output_of_libraries_does_not_break_responses(pool: ChildPool) -> None:
    numbers = await asyncio.gather(*(pool.run("double", {"number": number}, timeout=20) for number in range(8)))
    assert numbers == [0, 2, 4, 6, 8, 10, 12, 14]


@pytest.mark.parametrize(
    ("task", "arguments", "kind", "code"),
    [
        ("reject", {}, PermanentFailure, "bad-image"),
        ("crash", {}, TransientFailure, "child-died"),
        ("use_cpu", {}, TransientFailure, "cpu-limit"),
        ("use_memory", {}, PermanentFailure, "out-of-memory"),
        ("run_out_of_memory", {}, PermanentFailure, "out-of-memory"),
        ("raise_bug", {}, TransientFailure, "internal-error"),
        ("sleep", {"seconds": 600}, TransientFailure, "stage-timeout"),
    ],
)
async def test_a_failing_child_fails_only_its_task(
    pool: ChildPool, task: str, arguments: dict[str, Any], kind: type[StageFailure], code: str
) -> None:
    with pytest.raises(kind) as failure:
        await pool.run(task, arguments, timeout=1.0 if task == "sleep" else 20)
    assert failure.value.code == code
    assert "/secret" not in failure.value.text
    assert await pool.run("double", {"number": 4}, timeout=20) == 8


async def test_a_cancelled_task_frees_its_child(pool: ChildPool) -> None:
    for _ in range(3):
        job = asyncio.create_task(pool.run("sleep", {"seconds": 600}, timeout=60))
        await asyncio.sleep(0.05)
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
    assert await pool.run("double", {"number": 1}, timeout=20) == 2


async def test_a_full_disk_is_not_a_failure_of_the_image(pool: ChildPool) -> None:
    with pytest.raises(OSError, match="No space left") as raised:
        await pool.run("run_out_of_disk", {}, timeout=20)
    assert raised.value.errno == errno.ENOSPC


async def test_a_machine_that_starts_no_process_is_not_a_failure_of_the_image(
    pool: ChildPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    with monkeypatch.context() as patch:
        patch.setattr("asyncio.create_subprocess_exec", fail)
        with pytest.raises(BlockingIOError):
            await pool.run("double", {"number": 1}, timeout=20)
    assert await pool.run("double", {"number": 1}, timeout=20) == 2


async def test_waiting_for_a_child_does_not_count_against_the_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", ".")
    children = make_pool(size=1)
    await children.run("double", {"number": 1}, timeout=20)

    async def job() -> None:
        async with time_limit(2):
            await children.run("sleep", {"seconds": 0.6}, timeout=20)

    # The last of them waits for longer than its time limit.
    await asyncio.gather(*(job() for _ in range(5)))
    await children.close()


async def test_the_time_limit_ends_a_task(pool: ChildPool) -> None:
    with pytest.raises(TimeoutError):
        async with time_limit(0.2):
            await pool.run("sleep", {"seconds": 600}, timeout=60)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has this score")
async def test_the_kernel_kills_a_child_before_its_worker(pool: ChildPool) -> None:
    assert await pool.run("oom_score_adjustment", {}, timeout=20) == 1000


async def test_secrets_are_not_in_the_environment_of_a_child(pool: ChildPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADMIN_API_KEY", "secret")
    monkeypatch.setenv("TESSDATA_PREFIX", "/tessdata")
    environment = await pool.run("environment", {}, timeout=20)
    assert environment["TESSDATA_PREFIX"] == "/tessdata"
    assert "ADMIN_API_KEY" not in environment
