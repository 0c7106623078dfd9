"""Statements that are compiled once, for the transactions of every upload and every stage.

At every execution, SQLAlchemy builds a statement, looks it up in its cache and wraps the result. Measured, that takes
15 times as long as asyncpg's round trip (docs/performance.md). A `PreparedStatement` keeps the compiled text and passes
parameters directly to asyncpg, in the transaction of SQLAlchemy's connection. On SQLite, SQLAlchemy executes it.
"""

from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import asyncpg
import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.asyncio import AsyncConnection

# SQLAlchemy's Row, or a named tuple with the same attributes: one for each column.
Row: TypeAlias = Any
# A class of named tuples, which has no static type.
RowClass: TypeAlias = Any


# PostgreSQL's number of the type; SQLAlchemy chooses the conversion of floats by the number of the column's type.
_DOUBLE_PRECISION = 701


class PreparedStatement:
    """A SQLAlchemy statement that is compiled once; its variable parts are `bindparam`s.

    `columns` are the columns of an INSERT without `values()`. Returned rows are instances of `row`, a named tuple with
    the statement's columns in their order, or of an anonymous one. Errors of drivers pass through: the transaction
    translates them (`engine.translate_errors`).
    """

    def __init__(
        self, statement: sa.Executable, *, columns: Sequence[str] | None = None, row: RowClass | None = None
    ) -> None:
        self._statement = statement
        self._columns = None if columns is None else list(columns)
        self._row = row
        self._compiled: _Compiled | None = None

    async def fetch(self, connection: AsyncConnection, values: Mapping[str, object]) -> Sequence[Row]:
        """Return all rows."""
        driver = await _asyncpg(connection)
        if driver is None:
            return self._to_rows((await connection.execute(self._statement, dict(values))).all())
        compiled = self._for(connection.dialect)
        return compiled.to_rows(await driver.fetch(compiled.text, *compiled.arguments(values)))

    async def one_or_none(self, connection: AsyncConnection, values: Mapping[str, object]) -> Row | None:
        """Return the row, or None; raise MultipleResultsFound."""
        rows = await self.fetch(connection, values)
        if len(rows) > 1:
            raise sa.exc.MultipleResultsFound("the statement returned more than one row")
        return rows[0] if rows else None

    async def scalar(self, connection: AsyncConnection, values: Mapping[str, object]) -> Any:
        """Return the first column of the first row, or None without a row."""
        rows = await self.fetch(connection, values)
        return rows[0][0] if rows else None

    async def execute(self, connection: AsyncConnection, values: Mapping[str, object]) -> int:
        """Execute an INSERT, UPDATE or DELETE, and return the number of rows affected."""
        driver = await _asyncpg(connection)
        if driver is None:
            return (await connection.execute(self._statement, dict(values))).rowcount
        compiled = self._for(connection.dialect)
        # The status is "UPDATE 1", or "INSERT 0 1".
        status = await driver.execute(compiled.text, *compiled.arguments(values))
        return int(status.rpartition(" ")[2])

    async def executemany(self, connection: AsyncConnection, many: Sequence[Mapping[str, object]]) -> None:
        """Execute the statement for each set of values, in order."""
        if not many:
            return
        driver = await _asyncpg(connection)
        if driver is None:
            await connection.execute(self._statement, [dict(values) for values in many])
            return
        compiled = self._for(connection.dialect)
        await driver.executemany(compiled.text, [compiled.arguments(values) for values in many])

    async def fetchmany(self, connection: AsyncConnection, many: Sequence[Mapping[str, object]]) -> Sequence[Row]:
        """Execute the statement for each set of values, and return all rows; those of an INSERT in any order."""
        if not many:
            return ()
        driver = await _asyncpg(connection)
        if driver is None:
            if isinstance(self._statement, sa.Insert):
                return self._to_rows(
                    (await connection.execute(self._statement, [dict(values) for values in many])).all()
                )
            return [row for values in many for row in await self.fetch(connection, values)]
        compiled = self._for(connection.dialect)
        return compiled.to_rows(await driver.fetchmany(compiled.text, [compiled.arguments(values) for values in many]))

    def _to_rows(self, rows: Sequence[sa.Row[Any]]) -> Sequence[Row]:
        return rows if self._row is None else [self._row._make(row) for row in rows]

    def _for(self, dialect: Dialect) -> "_Compiled":
        # Shared by all engines, because they have the same dialect and serializers.
        if self._compiled is None:
            self._compiled = _Compiled(self._statement, dialect, self._columns, self._row)
        return self._compiled


class _Compiled:
    """The text, parameter conversions and row class of a statement for asyncpg."""

    def __init__(self, statement: Any, dialect: Dialect, columns: list[str] | None, row_class: RowClass | None) -> None:
        compiled: Any = statement.compile(dialect=dialect, column_keys=columns)
        if compiled.post_compile_params or compiled.literal_execute_params:
            raise TypeError("a statement whose text depends on its values can't be prepared")
        self.text = str(compiled)
        self._parameters: list[tuple[str, Callable[[Any], Any] | None]] = [
            (name, compiled.binds[name].type.dialect_impl(dialect).bind_processor(dialect))
            for name in compiled.positiontup
        ]
        # The values in the statement itself, as opposed to those of an execution.
        self._fixed = {name: bind.value for name, bind in compiled.binds.items() if not bind.required}
        returned = statement.exported_columns if isinstance(statement, sa.ReturnsRows) else ()
        self._row: Any = row_class or (namedtuple("Row", [column.key for column in returned]) if returned else None)
        results = [
            column.type.dialect_impl(dialect).result_processor(
                dialect, _DOUBLE_PRECISION if isinstance(column.type, sa.Float) else None
            )
            for column in returned
        ]
        # Most columns need no conversion.
        self._processed = [(index, process) for index, process in enumerate(results) if process is not None]

    def arguments(self, values: Mapping[str, object]) -> list[object]:
        """Return the values in the order of the text's parameters; raise KeyError for a missing one."""
        fixed = self._fixed
        return [
            value if process is None or value is None else process(value)
            for value, process in (
                (values[name] if name in values else fixed[name], process) for name, process in self._parameters
            )
        ]

    def to_rows(self, records: Sequence[asyncpg.Record]) -> list[Row]:
        """Convert the records of asyncpg to rows."""
        make = self._row._make
        if not self._processed:
            return [make(record) for record in records]
        return [make(self._process(list(record))) for record in records]

    def _process(self, values: list[Any]) -> list[Any]:
        for index, process in self._processed:
            values[index] = process(values[index])
        return values


async def _asyncpg(connection: AsyncConnection) -> Any:
    """Return the connection's asyncpg connection with a transaction begun; None on SQLite.

    SQLAlchemy begins a transaction only before the first statement that it executes itself, and has no public method
    for it. Without a transaction, each statement would commit separately. `tests/integration/db/test_sqlalchemy.py`
    fails if a release of SQLAlchemy changes the private attribute used here.
    """
    if connection.dialect.name == "sqlite":
        return None
    sync = connection.sync_connection
    if sync is None:
        raise RuntimeError("connection is closed")
    adapted: Any = sync.connection.dbapi_connection
    driver = adapted.driver_connection
    if adapted._transaction is None:
        transaction = driver.transaction()
        await transaction.start()
        adapted._transaction = transaction
    return driver
