"""CPU times of real processes."""

import asyncio
import os
import subprocess
import sys

import pytest

from devtools.waiting import until
from imago.cli.evaluating.cpu_time import cpu_per_image, cpu_seconds

BUSY = "while True: pass"


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's /proc")
async def test_the_time_of_a_worker_counts_to_its_step():
    # The arguments after the program are those of a worker of `imago dev`.
    arguments = ("-c", BUSY, "imago.cli.main", "worker", "ocr")
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=subprocess.DEVNULL)

    async def is_counted() -> bool:
        return cpu_seconds(os.getpid()).get("ocr", 0) > 0.1

    try:
        await until(is_counted, what="CPU time of the process")
        assert set(cpu_seconds(os.getpid())) == {"ocr"}
        assert cpu_seconds(process.pid) == {}
    finally:
        process.kill()
        await process.wait()


def test_the_mean_is_in_milliseconds_and_of_steps_that_ran_all_the_time():
    assert cpu_per_image({"ocr": 1.0}, {"ocr": 3.0, "vision": 1.0}, 4) == {"ocr": 500}
    assert cpu_per_image({"ocr": 1.0}, {"ocr": 3.0}, 0) == {}
