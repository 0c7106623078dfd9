"""Job slots are assigned to lanes by their rules, also if waiters are cancelled."""

import asyncio
import contextlib

from imago.nats.job_slots import JobSlots


async def test_a_waiter_cancelled_before_a_slot_is_free_takes_none() -> None:
    slots = JobSlots(1)
    await slots.acquire("premium")
    waiter = asyncio.create_task(slots.acquire("standard"))
    await asyncio.sleep(0)
    waiter.cancel()
    slots.release()
    with contextlib.suppress(asyncio.CancelledError):
        await waiter
    await asyncio.wait_for(slots.acquire("premium"), 1)
    assert slots.busy == 1


async def test_a_waiter_cancelled_after_it_was_assigned_a_slot_returns_it() -> None:
    slots = JobSlots(1)
    await slots.acquire("premium")
    waiter = asyncio.create_task(slots.acquire("standard"))
    await asyncio.sleep(0)
    slots.release()
    waiter.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiter
    await asyncio.wait_for(slots.acquire("premium"), 1)


async def test_standard_gets_one_slot_in_eight_however_long_the_jobs_take() -> None:
    slots, served = JobSlots(1), []

    async def lane(name: str) -> None:
        while len(served) < 80:
            await slots.acquire(name)
            served.append(name)
            await asyncio.sleep(0.002)
            slots.release()

    await asyncio.gather(*(lane(name) for name in ("premium", "premium", "standard", "standard")))
    # The first premium job started before a standard job was waiting.
    assert served[1:81].count("standard") == 10
