"""A child process that dies, hangs or uses too much does not affect the worker or other tasks."""

import asyncio
import contextlib
import errno
import os
import signal
import stat
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from imago.core.jobs.failures import PermanentFailure, StageFailure, TransientFailure
from imago.imaging.sandbox import libc
from imago.imaging.sandbox.pool import ChildPool, read_result, time_limit
from imago.imaging.sandbox.process import ChildProcess
from tests.support import child_tasks

TASKS = tuple(name for name, value in vars(child_tasks).items() if getattr(value, "__module__", "").endswith("tasks"))


@pytest.fixture
async def pool() -> AsyncIterator[ChildPool]:
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
        ("use_cpu", {}, PermanentFailure, "cpu-limit"),
        ("compute_too_long", {}, PermanentFailure, "cpu-limit"),
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


async def test_a_child_that_does_not_start_leaves_no_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("sys.executable", str(tmp_path / "no-such-program"))
    children = ChildPool(size=1, memory_mb=512, cpu_seconds=1, command=Path("/bin/true"))
    with pytest.raises(FileNotFoundError):
        await children.run("thumbnail", {}, timeout=20)
    assert list(tmp_path.iterdir()) == []


async def test_the_directory_of_a_command_is_only_its_childs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    children = ChildPool(
        size=1,
        memory_mb=512,
        cpu_seconds=1,
        command=Path("/bin/true"),
        extra_tasks=("double=tests.support.child_tasks:double",),
    )
    assert await children.run("double", {"number": 1}, timeout=20) == 2
    (directory,) = tmp_path.iterdir()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert directory.stat().st_uid == (os.geteuid() or libc.NOBODY)
    await children.close()
    assert list(tmp_path.iterdir()) == []


async def test_the_number_of_an_ended_child_is_not_signalled(pool: ChildPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be another process's."""
    signalled: list[int] = []
    killpg = os.killpg
    child = await pool.run("process_id", {}, timeout=20)
    os.kill(child, signal.SIGKILL)
    monkeypatch.setattr("os.killpg", lambda group, number: signalled.append(group) or killpg(group, number))
    await asyncio.gather(*(one._process.wait() for one in pool._idle))
    assert await pool.run("double", {"number": 1}, timeout=20) == 2
    assert signalled == []


async def test_waiting_for_a_child_does_not_count_against_the_time_limit() -> None:
    children = make_pool(size=1)
    await children.run("double", {"number": 1}, timeout=20)

    async def job() -> None:
        async with time_limit(2):
            await children.run("sleep", {"seconds": 0.6}, timeout=20)

    # The last of them waits for longer than its time limit.
    await asyncio.gather(*(job() for _ in range(5)))
    await children.close()


async def test_the_start_of_a_child_does_not_count_against_the_time_limit(
    pool: ChildPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = ChildProcess.start

    async def start_slowly(options: Sequence[str], *, command: Path | None) -> ChildProcess:
        await asyncio.sleep(3)
        return await start(options, command=command)

    monkeypatch.setattr(ChildProcess, "start", start_slowly)
    async with time_limit(2):
        assert await pool.run("double", {"number": 1}, timeout=20) == 2


def set_rank(process: int, policy: int, nice: int) -> None:
    os.sched_setscheduler(process, policy, os.sched_param(0))
    with contextlib.suppress(OSError):
        # Where each session has its share of the CPUs, this is the rank of the session.
        Path(f"/proc/{process}/autogroup").write_text(str(nice))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how long a process waited for a CPU")
async def test_waiting_for_a_cpu_does_not_count_against_the_time_limit() -> None:
    children = make_pool(size=1)
    child = await children.run("process_id", {}, timeout=20)
    cpus = os.sched_getaffinity(0)
    # The child computes only when nothing else does on its CPU.
    set_rank(child, os.SCHED_IDLE, 19)
    os.sched_setaffinity(child, {min(cpus)})
    spin = f"import os\nos.sched_setaffinity(0, {{{min(cpus)}}})\nwhile True: pass"
    busy = await asyncio.create_subprocess_exec(sys.executable, "-c", spin)
    try:
        job = asyncio.create_task(children.run("compute", {"seconds": 0.2}, timeout=2))
        done, _ = await asyncio.wait([job], timeout=3)
        assert not done, "the child was to wait for the CPU for longer than its time limit"
    finally:
        busy.kill()
        await busy.wait()
        set_rank(child, os.SCHED_OTHER, 0)
        os.sched_setaffinity(child, cpus)
    await job
    await children.close()


async def test_the_time_limit_ends_a_task(pool: ChildPool) -> None:
    with pytest.raises(TimeoutError):
        async with time_limit(0.2):
            await pool.run("sleep", {"seconds": 600}, timeout=60)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has this score")
async def test_the_kernel_kills_a_child_before_its_worker(pool: ChildPool) -> None:
    child = await pool.run("process_id", {}, timeout=20)
    assert int(Path(f"/proc/{child}/oom_score_adj").read_text()) == 1000


async def test_secrets_are_not_in_the_environment_of_a_child(pool: ChildPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADMIN_API_KEY", "secret")
    monkeypatch.setenv("TESSDATA_PREFIX", "tessdata")
    environment = await pool.run("environment", {}, timeout=20)
    # The working directory of a child is another one.
    assert environment["TESSDATA_PREFIX"] == str(Path("tessdata").absolute())
    assert "ADMIN_API_KEY" not in environment


async def test_a_task_gets_its_files_open(pool: ChildPool, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"text")
    assert await pool.run("copy", {}, timeout=20, reads={"source": source}, writes={"target": target}) == 4
    assert target.read_bytes() == b"TEXT"


@pytest.mark.parametrize("kind", ["missing", "link", "pipe", "directory"])
async def test_an_input_that_is_no_file_is_a_missing_original(pool: ChildPool, tmp_path: Path, kind: str) -> None:
    source = tmp_path / "source"
    if kind == "link":
        (tmp_path / "foreign").write_bytes(b"another's")
        source.symlink_to(tmp_path / "foreign")
    elif kind == "pipe":
        os.mkfifo(source)
    elif kind == "directory":
        source.mkdir()
    with pytest.raises(PermanentFailure) as failure:
        await pool.run("copy", {}, timeout=20, reads={"source": source}, writes={"target": tmp_path / "target"})
    assert failure.value.code == "original-missing"


async def test_an_output_is_not_written_through_a_link(pool: ChildPool, tmp_path: Path) -> None:
    source, foreign = tmp_path / "source", tmp_path / "foreign"
    source.write_bytes(b"text")
    foreign.write_bytes(b"another's")
    (tmp_path / "target").symlink_to(foreign)
    with pytest.raises(OSError, match="symbolic links"):
        await pool.run("copy", {}, timeout=20, reads={"source": source}, writes={"target": tmp_path / "target"})
    assert foreign.read_bytes() == b"another's"


async def test_a_time_out_with_little_computing_is_worth_a_retry(pool: ChildPool) -> None:
    """On a loaded machine a task computes little in its time."""
    with pytest.raises(TransientFailure) as failure:
        await pool.run("sleep", {"seconds": 600}, timeout=0.5)
    assert failure.value.code == "stage-timeout"


async def test_a_task_may_have_less_computing_time_than_the_pool(pool: ChildPool) -> None:
    with pytest.raises(PermanentFailure, match=r"more than 0\.2 s of computing time"):
        await pool.run("use_cpu", {}, timeout=60, cpu_seconds=0.2)


async def test_the_computing_time_of_earlier_tasks_does_not_count(pool: ChildPool) -> None:
    for _ in range(4):
        await pool.run("compute", {"seconds": 0.4}, timeout=20)


async def test_what_a_child_prints_is_counted_and_limited(pool: ChildPool) -> None:
    with capture_logs() as lines:
        refused = await pool.run("print_much", {"megabytes": 16}, timeout=60)
        assert await pool.run("double", {"number": 4}, timeout=20) == 8
    assert refused > 200, "the child could print more than the limit"
    printed, excerpt = lines
    assert (printed["event"], printed["task"], printed["limited"]) == ("child.output", "print_much", True)
    assert printed["bytes"] < 256 * 1024
    assert excerpt["excerpt"].startswith("Warning [31m,")
    assert excerpt["excerpt"].isascii()
    assert len(excerpt["excerpt"]) <= 300


async def test_the_output_of_a_child_that_crashes_is_not_a_limited_one(pool: ChildPool) -> None:
    with capture_logs() as lines, pytest.raises(TransientFailure):
        await pool.run("print_and_crash", {}, timeout=20)
    (printed,) = [line for line in lines if line["event"] == "child.output"]
    assert (printed["bytes"], printed["limited"]) == (4, False)


@pytest.mark.parametrize(
    "response",
    [{}, [], "text", {"failure": 1}, {"failure": {"kind": "x", "code": "A b\n", "text": ""}}, {"exhausted": "28"}],
)
async def test_a_response_that_is_none_is_a_death_of_the_child(response: Any) -> None:
    with pytest.raises(TransientFailure) as failure:
        read_result("double", response)
    assert failure.value.code == "child-died"


async def test_a_limit_of_a_part_holds_for_that_part(pool: ChildPool) -> None:
    assert await pool.run("compute_in_parts", {}, timeout=20) == 1


async def test_a_client_without_a_child_does_not_wait_for_the_slow_tasks_of_another(pool: ChildPool) -> None:
    async def job(client: str, task: str, **arguments: object) -> Any:
        async with time_limit(60, client=client):
            return await pool.run(task, arguments, timeout=60)

    slow = [asyncio.create_task(job("one", "sleep", seconds=600)) for _ in range(5)]
    await asyncio.sleep(0)
    async with asyncio.timeout(20):
        assert await job("other", "double", number=2) == 4
    assert not any(task.done() for task in slow)
    for task in slow:
        task.cancel()
    await asyncio.gather(*slow, return_exceptions=True)
    assert await pool.run("double", {"number": 1}, timeout=20) == 2
