"""The ledger of AI calls on both databases: budgets, costs, and jobs parked until their budget allows them."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from imago.core.ai_usage.ledger import DatabaseLedger, delete_old_calls, expire_reservations, get_ai_usage
from imago.core.ai_usage.model import (
    BUDGET_CODE,
    AiUsage,
    BudgetExhausted,
    BudgetPolicy,
    CallContext,
    CallKind,
    TokenUsage,
    month_of,
    next_month,
)
from imago.core.clients.audit import Actor
from imago.core.clients.changes import ClientPatch, patch_client
from imago.core.clients.model import Client, Plan
from imago.core.jobs.budget_parking import find_parked_clients, wake_stages
from imago.core.jobs.claims import Claim
from imago.core.jobs.completion import fail_stage
from imago.core.jobs.failures import Throttled
from imago.core.jobs.stages import Stage
from imago.core.outbox.work_message import WorkMessage
from imago.core.times import utc_now
from imago.db.engine import Database, RowScope
from imago.db.tables import ai_calls, ai_usage, image_stages, outbox
from tests.support.samples import make_client, make_image
from tests.support.work import claim_stage


def context(client: Client, *, calls: int = 10, image: int | None = None) -> CallContext:
    return CallContext(client.id, CallKind.VISION, calls, BudgetPolicy.HOLD, image)


async def test_a_budget_of_10_allows_exactly_10_of_100_concurrent_calls(
    db: Database, record_property: Callable[[str, object], None]
) -> None:
    client, other = await make_client(db), await make_client(db, "other")
    ledger = DatabaseLedger(db)
    made: list[int] = []

    async def call() -> bool:
        try:
            reservation = await ledger.reserve(context(client), provider="gemini")
        except BudgetExhausted:
            return False
        made.append(reservation)
        await asyncio.sleep(0.01)
        await ledger.settle(reservation, TokenUsage("m", 100, 10, 7))
        return True

    allowed = sum(await asyncio.gather(*(call() for _ in range(100))))
    usage = await get_ai_usage(db, client.id)
    print(f"budget 10, 100 in parallel: {allowed} calls, {usage}")
    record_property("calls", allowed)
    assert (allowed, len(set(made))) == (10, 10)
    assert usage == AiUsage(10, 1000, 100, 70, 0)
    assert await get_ai_usage(db, other.id) == AiUsage()
    # Another client has its own budget.
    await ledger.reserve(context(other), provider="gemini")


async def test_a_cancelled_call_is_subtracted_once(db: Database) -> None:
    client, ledger = await make_client(db), DatabaseLedger(db)
    reservation = await ledger.reserve(context(client, calls=1), provider="gemini")
    with pytest.raises(BudgetExhausted) as refused:
        await ledger.reserve(context(client, calls=1), provider="gemini")
    assert refused.value.until == next_month(utc_now())
    for _ in range(3):
        await ledger.cancel(reservation)
    assert (await get_ai_usage(db, client.id)).calls == 0
    again = await ledger.reserve(context(client, calls=1), provider="gemini")
    await ledger.settle(again, TokenUsage("m", 5, 5))
    # A settled call cannot be cancelled.
    await ledger.cancel(again)
    await ledger.settle(again, TokenUsage("m", 5, 5))
    assert await get_ai_usage(db, client.id) == AiUsage(1, 5, 5, 0, 1)
    assert (await get_ai_usage(db, client.id)).cost_usd is None


async def test_a_budget_of_zero_allows_no_call(db: Database) -> None:
    client = await make_client(db)
    with pytest.raises(BudgetExhausted):
        await DatabaseLedger(db).reserve(context(client, calls=0), provider="gemini")
    assert await get_ai_usage(db, client.id) == AiUsage()


async def test_a_new_month_starts_at_zero_and_the_old_one_is_kept(db: Database) -> None:
    client, ledger = await make_client(db), DatabaseLedger(db)
    await ledger.settle(await ledger.reserve(context(client, calls=1), provider="gemini"), TokenUsage("m", 1, 1, 3))
    async with db.write() as connection:
        for table in (ai_usage, ai_calls):
            await connection.execute(sa.update(table).values(month="2026-01"))
    await ledger.reserve(context(client, calls=1), provider="gemini")
    assert (await get_ai_usage(db, client.id)).calls == 1
    assert (await get_ai_usage(db, client.id, at=datetime(2026, 1, 31, tzinfo=UTC))).cost_microusd == 3


async def test_the_reservation_of_a_killed_process_ends_and_stays_counted(db: Database) -> None:
    client, ledger = await make_client(db), DatabaseLedger(db)
    lost = await ledger.reserve(context(client), provider="gemini")
    fresh = await ledger.reserve(context(client), provider="gemini")
    async with db.write() as connection:
        long_ago = utc_now() - timedelta(hours=1)
        await connection.execute(sa.update(ai_calls).where(ai_calls.c.id == lost).values(created_at=long_ago))
    assert await expire_reservations(db, older_than=timedelta(minutes=10)) == 1
    assert await expire_reservations(db, older_than=timedelta(minutes=10)) == 0
    # The provider may charge for it, so it counts, without a cost.
    assert await get_ai_usage(db, client.id) == AiUsage(2, 0, 0, 0, 1)
    await ledger.settle(fresh, TokenUsage("m", 1, 1, 1))
    assert await get_ai_usage(db, client.id) == AiUsage(2, 1, 1, 1, 1)
    assert await delete_old_calls(db, older_than=timedelta(minutes=10)) == 1
    assert (await get_ai_usage(db, client.id)).calls == 2


async def test_each_call_is_recorded_with_client_image_model_and_tokens(db: Database) -> None:
    client, ledger = await make_client(db), DatabaseLedger(db)
    reservation = await ledger.reserve(context(client, image=17), provider="openrouter")
    await ledger.settle(reservation, TokenUsage("some/model", 1200, 80, 345))
    async with db.read(RowScope(client.id)) as connection:
        row = (await connection.execute(sa.select(ai_calls))).one()
    assert (row.client_id, row.image_id, row.kind, row.provider, row.model) == (
        client.id,
        17,
        "vision",
        "openrouter",
        "some/model",
    )
    assert (row.input_tokens, row.output_tokens, row.cost_microusd, row.outcome) == (1200, 80, 345, "settled")
    assert row.month == month_of(utc_now())


async def test_erasing_a_client_deletes_its_ledger(db: Database) -> None:
    client, ledger = await make_client(db), DatabaseLedger(db)
    reservation = await ledger.reserve(context(client), provider="gemini")
    async with db.write() as connection:
        await connection.execute(sa.text("DELETE FROM clients WHERE id = :id"), {"id": client.id})
    await ledger.settle(reservation, TokenUsage("m"))
    async with db.read() as connection:
        for table in (ai_calls, ai_usage):
            assert await connection.scalar(sa.select(sa.func.count()).select_from(table)) == 0


async def park(db: Database, client: Client, count: int) -> list[int]:
    """Park the vision stage of some images until the next month; return the images."""
    found = []
    for _ in range(count):
        image = await make_image(db, client)
        message = WorkMessage(image.uuid, client.uuid, Stage.VISION, 1, 0)
        got = await claim_stage(db, message, lease=timedelta(seconds=30), max_tries=3, headers={})
        assert isinstance(got, Claim)
        failure = Throttled(BUDGET_CODE, "Used up.", next_month(utc_now()) - utc_now())
        await fail_stage(db, got, failure, max_tries=3, base=timedelta(1), cap=timedelta(1), headers={})
        found.append(image.id)
    return found


async def due(db: Database, client: Client) -> int:
    """Return how many parked stages are due, according to both the outbox and their own rows."""
    async with db.read() as connection:
        stages = await connection.scalar(
            sa.select(sa.func.count())
            .select_from(image_stages)
            .where(
                image_stages.c.client_id == client.id,
                image_stages.c.error_code == BUDGET_CODE,
                image_stages.c.due_at <= utc_now(),
            )
        )
        rows = await connection.scalar(
            sa.select(sa.func.count())
            .select_from(outbox)
            .where(
                outbox.c.client_id == client.id,
                outbox.c.kind == "work",
                outbox.c.epoch > 0,
                outbox.c.due_at <= utc_now(),
            )
        )
    assert stages == rows
    return int(stages or 0)


async def test_a_higher_limit_wakes_as_many_stages_as_it_allows(db: Database) -> None:
    client = await make_client(db, ai_calls_per_month=0)
    await park(db, client, 5)
    assert await find_parked_clients(db, policy=BudgetPolicy.HOLD) == []
    admin = Actor("test", None)
    await patch_client(db, client.id, ClientPatch(limits={"ai_calls_per_month": 3}), by=admin)
    [found] = await find_parked_clients(db, policy=BudgetPolicy.HOLD)
    assert (found.client_id, found.room, found.unbounded) == (client.id, 3, False)
    assert await wake_stages(db, client.id, limit=found.room) == 3
    assert await due(db, client) == 3
    # A plan with more calls wakes the rest too.
    await patch_client(db, client.id, ClientPatch(plan=Plan.PREMIUM, limits={"ai_calls_per_month": None}), by=admin)
    [found] = await find_parked_clients(db, policy=BudgetPolicy.HOLD)
    assert await wake_stages(db, client.id, limit=found.room) == 2
    assert await wake_stages(db, client.id, limit=found.room) == 0
    assert await due(db, client) == 5


@pytest.mark.parametrize(("own", "servers"), [("reject", "hold"), (None, "offline")])
async def test_another_policy_wakes_all_parked_stages(db: Database, own: str | None, servers: str) -> None:
    client = await make_client(db, ai_calls_per_month=0)
    await park(db, client, 2)
    if own is not None:
        patch = ClientPatch(pipeline={"ai_budget_policy": own})
        await patch_client(db, client.id, patch, by=Actor("test", None))
    [found] = await find_parked_clients(db, policy=BudgetPolicy(servers))
    assert found.unbounded
    assert await wake_stages(db, client.id, limit=10) == 2
    assert await due(db, client) == 2


async def test_stages_parked_for_other_reasons_stay_parked(db: Database) -> None:
    client = await make_client(db)
    image = await make_image(db, client)
    message = WorkMessage(image.uuid, client.uuid, Stage.VISION, 1, 0)
    got = await claim_stage(db, message, lease=timedelta(seconds=30), max_tries=3, headers={})
    assert isinstance(got, Claim)
    throttled = Throttled("provider-throttled", "Wait.", timedelta(hours=1))
    await fail_stage(db, got, throttled, max_tries=3, base=timedelta(1), cap=timedelta(1), headers={})
    assert await find_parked_clients(db, policy=BudgetPolicy.REJECT) == []
    assert await wake_stages(db, client.id, limit=10) == 0
