"""Child processes are shared among clients: the one with the fewest tasks in progress is next."""

import asyncio

from imago.imaging.sandbox.seats import Seats


async def seated(seats: Seats, *clients: str | None) -> list[asyncio.Task[None]]:
    tasks = [asyncio.create_task(seats.acquire(client)) for client in clients]
    await asyncio.sleep(0.01)
    return tasks


async def test_one_client_takes_all_seats_and_another_gets_one_more() -> None:
    seats = Seats(2)
    tasks = await seated(seats, "a", "a", "a", "b", "b", "c")
    assert [task.done() for task in tasks] == [True, True, False, True, False, False]
    assert seats.taken == 3


async def test_a_free_seat_goes_to_the_client_with_the_fewest_and_among_those_to_the_first() -> None:
    seats = Seats(2)
    one, _, three, four, five = await seated(seats, "a", "b", "a", "c", "d")
    assert (three.done(), four.done(), five.done()) == (False, True, False)
    seats.release("c")
    await asyncio.sleep(0.01)
    assert (three.done(), five.done()) == (False, True)
    seats.release("d")
    seats.release("b")
    await asyncio.sleep(0.01)
    assert three.done()
    assert one.done()


async def test_tasks_without_a_client_get_no_further_seat() -> None:
    tasks = await seated(Seats(1), None, None)
    assert [task.done() for task in tasks] == [True, False]


async def test_a_task_without_a_client_does_not_keep_a_client_from_the_further_seat() -> None:
    tasks = await seated(Seats(1), "a", None, "b")
    assert [task.done() for task in tasks] == [True, False, True]


async def test_a_cancelled_wait_takes_no_seat() -> None:
    seats = Seats(1)
    first, second, third = await seated(seats, "a", "a", "a")
    second.cancel()
    await asyncio.sleep(0.01)
    seats.release("a")
    await asyncio.sleep(0.01)
    assert (first.done(), third.done(), seats.taken) == (True, True, 1)
