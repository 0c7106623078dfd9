"""Statements that are built once, for transactions that every upload and every stage runs.

SQLAlchemy builds a statement, looks it up in its cache and gives a result of its own; measured, that is fifteen times
what PostgreSQL's driver takes for the round trip (docs/performance.md). A `Statement` keeps what was compiled and gives
its parameters to the driver, in the transaction that SQLAlchemy's connection holds. On SQLite, SQLAlchemy executes it.
"""

from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import asyncpg
import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.asyncio import AsyncConnection

# A row's values by the names of its columns: SQLAlchemy's own, or one with the same attributes.
Row: TypeAlias = Any
# A NamedTuple's class, which has no type of its own.
RowClass: TypeAlias = Any


class PreparedStatement:
    """A statement of SQLAlchemy's without parameters but `bindparam`s; the same values are given at each execution.

    `columns` names the columns of an INSERT whose rows are given as they are. Rows that are returned are of the class
    `row`, whose fields are the statement's columns in their order, or of a nameless one with such fields. What drivers
    raise passes through, to be mapped by the transaction (`engine.mapped_errors`).
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
        driver = await _driver(connection)
        if driver is None:
            return self._classed((await connection.execute(self._statement, dict(values))).all())
        compiled = self._for(connection.dialect)
        return compiled.to_rows(await driver.fetch(compiled.text, *compiled.arguments(values)))

    async def one_or_none(self, connection: AsyncConnection, values: Mapping[str, object]) -> Row | None:
        """Return the only row, or None."""
        rows = await self.fetch(connection, values)
        if len(rows) > 1:
            raise sa.exc.MultipleResultsFound("a statement for one row gave several")
        return rows[0] if rows else None

    async def scalar(self, connection: AsyncConnection, values: Mapping[str, object]) -> Any:
        """Return the first column of the first row, or None where there is none."""
        rows = await self.fetch(connection, values)
        return rows[0][0] if rows else None

    async def execute(self, connection: AsyncConnection, values: Mapping[str, object]) -> int:
        """Return how many rows an UPDATE, DELETE or INSERT concerned."""
        driver = await _driver(connection)
        if driver is None:
            return (await connection.execute(self._statement, dict(values))).rowcount
        compiled = self._for(connection.dialect)
        # The one way of the driver's with parameters that tells the status too: "UPDATE 1", "INSERT 0 1".
        status = await driver.execute(compiled.text, *compiled.arguments(values))
        return int(status.rpartition(" ")[2])

    async def executemany(self, connection: AsyncConnection, many: Sequence[Mapping[str, object]]) -> None:
        """Execute it for each of many sets of values, in their order."""
        if not many:
            return
        driver = await _driver(connection)
        if driver is None:
            await connection.execute(self._statement, [dict(values) for values in many])
            return
        compiled = self._for(connection.dialect)
        await driver.executemany(compiled.text, [compiled.arguments(values) for values in many])

    async def fetchmany(self, connection: AsyncConnection, many: Sequence[Mapping[str, object]]) -> Sequence[Row]:
        """Do the same with a statement that returns rows, and return all of them; those of an INSERT in any order."""
        if not many:
            return ()
        driver = await _driver(connection)
        if driver is None:
            if isinstance(self._statement, sa.Insert):
                return self._classed(
                    (await connection.execute(self._statement, [dict(values) for values in many])).all()
                )
            return [row for values in many for row in await self.fetch(connection, values)]
        compiled = self._for(connection.dialect)
        return compiled.to_rows(await driver.fetchmany(compiled.text, [compiled.arguments(values) for values in many]))

    def _classed(self, rows: Sequence[sa.Row[Any]]) -> Sequence[Row]:
        return rows if self._row is None else [self._row._make(row) for row in rows]

    def _for(self, dialect: Dialect) -> "_Compiled":
        # One for all engines: they have the same dialect and the same serializers.
        if self._compiled is None:
            self._compiled = _Compiled(self._statement, dialect, self._columns, self._row)
        return self._compiled


class _Compiled:
    """A statement as PostgreSQL's driver takes it."""

    def __init__(self, statement: Any, dialect: Dialect, columns: list[str] | None, row_class: RowClass | None) -> None:
        compiled: Any = statement.compile(dialect=dialect, column_keys=columns)
        if compiled.post_compile_params or compiled.literal_execute_params:
            raise TypeError("a statement whose text depends on its values can't be kept")
        self.text = str(compiled)
        self._parameters: list[tuple[str, Callable[[Any], Any] | None]] = [
            (name, compiled.binds[name].type.dialect_impl(dialect).bind_processor(dialect))
            for name in compiled.positiontup
        ]
        # Values that the statement was built with, beside those that each execution gives.
        self._fixed = {name: bind.value for name, bind in compiled.binds.items() if not bind.required}
        given = statement.exported_columns if isinstance(statement, sa.ReturnsRows) else ()
        self._row: Any = row_class or (namedtuple("Row", [column.key for column in given]) if given else None)
        results = [column.type.dialect_impl(dialect).result_processor(dialect, None) for column in given]
        # Most columns need nothing done to them.
        self._processed = [(place, process) for place, process in enumerate(results) if process is not None]

    def arguments(self, values: Mapping[str, object]) -> list[object]:
        """Return the values in the order of the text's parameters; raise KeyError for one that is missing."""
        fixed = self._fixed
        return [
            value if process is None or value is None else process(value)
            for value, process in (
                (values[name] if name in values else fixed[name], process) for name, process in self._parameters
            )
        ]

    def to_rows(self, records: Sequence[asyncpg.Record]) -> list[Row]:
        """Return what the driver gave as rows."""
        make = self._row._make
        if not self._processed:
            return [make(record) for record in records]
        return [make(self._process(list(record))) for record in records]

    def _process(self, values: list[Any]) -> list[Any]:
        for place, process in self._processed:
            values[place] = process(values[place])
        return values


async def _driver(connection: AsyncConnection) -> Any:
    """Return PostgreSQL's driver connection, in the transaction; None on SQLite.

    SQLAlchemy begins a transaction with the first statement that it executes itself, and there is no public way to ask
    for it earlier: without this, each statement would be one of its own. The tests of row-level security notice.
    """
    if connection.dialect.name == "sqlite":
        return None
    sync = connection.sync_connection
    if sync is None:
        raise RuntimeError("the connection is closed")
    adapted: Any = sync.connection.dbapi_connection
    driver = adapted.driver_connection
    if adapted._transaction is None:
        transaction = driver.transaction()
        await transaction.start()
        adapted._transaction = transaction
    return driver
