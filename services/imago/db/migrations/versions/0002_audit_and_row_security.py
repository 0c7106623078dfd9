"""The audit log; row-level security on PostgreSQL.

Every transaction sets `imago.client` (a client's id) or `imago.scope` (`system`); without either, no row is visible.
The policies are forced, so that they also apply to the owner of the tables; superusers and roles with BYPASSRLS bypass
them. `image_search` (`imago.core.images.search.full_text`) and tables without clients' data have no policy.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Json = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
Moment = sa.DateTime(timezone=True)

# A sub-select is evaluated once per query instead of once per row.
SYSTEM = "(SELECT current_setting('imago.scope', true)) = 'system'"
CLIENT = "(SELECT nullif(current_setting('imago.client', true), '')::bigint)"

OF_CLIENTS = (
    "api_keys",
    "client_usage",
    "dead_letters",
    "idempotency_keys",
    "image_stages",
    "image_tags",
    "images",
    "outbox",
    "stage_results",
    "upload_intents",
)


def upgrade() -> None:
    """Create the audit log and the policies."""
    op.create_table(
        "audit_log",
        sa.Column("id", BigId, autoincrement=True, nullable=False),
        sa.Column("at", Moment, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("client_uuid", sa.Uuid(), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("details", Json, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_log")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_audit_log_client_uuid_id", "audit_log", ["client_uuid", "id"], unique=False)
    if op.get_context().dialect.name != "postgresql":
        return
    for table in OF_CLIENTS:
        _protect(table, f"client_id = {CLIENT} OR {SYSTEM}")
    _protect("clients", f"id = {CLIENT} OR {SYSTEM}")
    _protect("audit_log", SYSTEM)
    # A client's transaction inserts tombstones for its objects, and never reads any.
    _protect("tombstones", SYSTEM)
    op.execute(f"CREATE POLICY bury ON tombstones FOR INSERT WITH CHECK ({CLIENT} IS NOT NULL)")


def _protect(table: str, condition: str) -> None:
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY own ON {table} USING ({condition}) WITH CHECK ({condition})")
