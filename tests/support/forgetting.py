"""SQL statements without their conditions on the client."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any
from unittest.mock import patch

import sqlalchemy as sa
from sqlalchemy.engine import Dialect

from imago.db.engine import Database
from imago.db.prepared import PreparedStatement


@contextmanager
def forgetting_the_client(db: Database) -> Iterator[list[str]]:
    """Remove every condition on a client's id from PostgreSQL statements, as if it had been forgotten."""
    struck: list[str] = []

    def strike(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> tuple[str, Any]:
        # The parameter is kept, so that the others keep their numbers.
        without, count = re.subn(r"\b\w+\.client_id = (\$\d+)::(\w+)", r"\1::\2 IS NOT NULL", statement)
        if count:
            struck.append(without)
        return without, parameters

    def text_for_the_driver(self: PreparedStatement, dialect: Dialect) -> Any:
        kept = copy(compiled_for(self, dialect))
        kept.text, _ = strike(None, None, kept.text, None)
        return kept

    compiled_for = PreparedStatement._for
    sa.event.listen(db.engine.sync_engine, "before_cursor_execute", strike, retval=True)
    try:
        with patch.object(PreparedStatement, "_for", text_for_the_driver):
            yield struck
    finally:
        sa.event.remove(db.engine.sync_engine, "before_cursor_execute", strike)
