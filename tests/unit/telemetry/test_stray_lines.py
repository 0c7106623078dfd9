"""A process in production prints JSON only, whatever libraries, threads and clients do."""

import json
import subprocess
import sys

PROGRAM = """
import asyncio, faulthandler, logging, sys, threading, warnings
from imago.telemetry.logs import configure_logging

faulthandler.enable()
configure_logging(level="info")
for number in range(1000):
    warnings.warn(f"Tag data of client-text-{number}")
    warnings.warn(f"overflow in client-text {number}\\x1b[31m", RuntimeWarning)
logging.getLogger("library").error("library\\nsays\\x1b[31m %s", "x" * 100_000)
logging.getLogger("nats.aio.client").warning("lost")

class Bad:
    def __del__(self):
        raise ValueError("finalizer")

Bad()

def crash():
    raise ValueError("thread")

thread = threading.Thread(target=crash, name="worker")
thread.start()
thread.join()

async def never(): ...

async def failing():
    raise ValueError("task")

async def main():
    never()
    asyncio.create_task(failing())
    await asyncio.sleep(0.01)

asyncio.run(main())
assert not faulthandler.is_enabled()
raise ValueError("uncaught")
"""


def test_every_line_of_a_process_is_json() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert (done.returncode, done.stdout) == (1, "")
    events = [line["event"] for line in lines]
    for expected in ("finalizer.failed", "thread.crashed", "process.crashed", "lost"):
        assert expected in events
    warned = [line for line in lines if line["event"] == "python.warning"]
    # One for the place in the program, and one for the coroutine that was not awaited.
    assert len(warned) == 2
    assert warned[0]["text"] == "overflow in client-text 0 [31m"
    assert "was never awaited" in warned[1]["text"]
    assert not any("Tag data" in line for line in done.stderr.splitlines())
    assert max(map(len, done.stderr.splitlines())) < 8_000
