"""What `imago.db` relies on in SQLAlchemy beyond its documented API; a release that changes it fails here first."""

from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import asyncpg as asyncpg_dialect
from sqlalchemy.ext.asyncio import AsyncConnection

from imago.db.engine import SYSTEM, Database
from imago.db.prepared import PreparedStatement
from imago.db.scoped_connection import ScopedConnection

VERSION = f"SQLAlchemy {sa.__version__}"

TRANSACTIONS = (
    f"{VERSION} begins transactions on asyncpg connections in another way than the release Imago was written for. "
    "`imago.db.prepared` begins the transaction itself and stores it in the private attribute `_transaction` of "
    "`AsyncAdapt_asyncpg_connection`, so that SQLAlchemy commits or rolls it back. Compare the class in "
    "sqlalchemy/dialects/postgresql/asyncpg.py with `_asyncpg` in services/imago/db/prepared.py and adapt it, "
    "or exclude this release in pyproject.toml. Otherwise prepared statements commit by themselves."
)
SCOPES = (
    f"{VERSION} does not call `transaction()` of the asyncpg connection to begin a transaction. Row-level security "
    "depends on it: `imago.db.scoped_connection.ScopedConnection.transaction` sets the row scope of the transaction."
)
COMPILED = (
    f"{VERSION} has renamed an attribute of its compiled statements. `_Compiled` in services/imago/db/prepared.py "
    "reads the order, the types and the values of a statement's parameters from it."
)

TRANSACTION_ID = sa.select(sa.func.txid_current().label("id"))
PREPARED_TRANSACTION_ID = PreparedStatement(TRANSACTION_ID)

on_postgresql = pytest.mark.parametrize("db", ["postgresql"], indirect=True)


async def adapted(connection: AsyncConnection) -> Any:
    """Return SQLAlchemy's adapter of the asyncpg connection."""
    return (await connection.get_raw_connection()).dbapi_connection


@on_postgresql
async def test_an_adapter_without_a_transaction_has_none_in_its_private_attribute(db: Database) -> None:
    async with db.engine.connect() as connection:
        assert getattr(await adapted(connection), "_transaction", "missing") is None, TRANSACTIONS


@on_postgresql
async def test_sqlalchemy_continues_the_transaction_that_a_prepared_statement_began(db: Database) -> None:
    async with db.write(SYSTEM) as connection:
        began = await PREPARED_TRANSACTION_ID.scalar(connection, {})
        assert await connection.scalar(TRANSACTION_ID) == began, TRANSACTIONS


@on_postgresql
async def test_a_prepared_statement_continues_the_transaction_that_sqlalchemy_began(db: Database) -> None:
    async with db.write(SYSTEM) as connection:
        began = await connection.scalar(TRANSACTION_ID)
        assert await PREPARED_TRANSACTION_ID.scalar(connection, {}) == began, TRANSACTIONS


@on_postgresql
async def test_sqlalchemy_ends_the_transaction_that_a_prepared_statement_began(db: Database) -> None:
    for end in ("commit", "rollback"):
        async with db.engine.connect() as connection:
            await PREPARED_TRANSACTION_ID.scalar(connection, {})
            adapter = await adapted(connection)
            assert adapter.driver_connection.is_in_transaction(), TRANSACTIONS
            await connection.run_sync(lambda _, adapter=adapter, end=end: getattr(adapter, end)())
            assert not adapter.driver_connection.is_in_transaction(), TRANSACTIONS
            assert adapter._transaction is None, TRANSACTIONS


@on_postgresql
async def test_sqlalchemy_begins_its_transactions_with_the_connection_s_own_method(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[object] = []
    transaction = ScopedConnection.transaction

    def recorded(connection: ScopedConnection, **options: Any) -> Any:
        begun.append(connection)
        return transaction(connection, **options)

    # The first connection of an engine runs further transactions.
    await db.check()
    monkeypatch.setattr(ScopedConnection, "transaction", recorded)
    async with db.engine.connect() as connection:
        await connection.execute(TRANSACTION_ID)
        assert begun == [(await adapted(connection)).driver_connection], SCOPES


def test_a_compiled_statement_has_the_attributes_that_prepared_statements_read() -> None:
    statement = sa.select(sa.bindparam("first", type_=sa.Integer), sa.bindparam("second", "value", type_=sa.Text))
    compiled: Any = statement.compile(dialect=asyncpg_dialect.dialect())
    missing = {"binds", "positiontup", "post_compile_params", "literal_execute_params"} - set(dir(compiled))
    assert not missing, COMPILED
    assert compiled.positiontup == ["first", "second"], COMPILED
    assert {name: bind.required for name, bind in compiled.binds.items()} == {"first": True, "second": False}, COMPILED
