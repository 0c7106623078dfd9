"""Calls to AI providers and their cost, monthly totals of clients, and the index of stages that wait for a budget."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Moment = sa.DateTime(timezone=True)

# As in 0002.
SYSTEM = "(SELECT current_setting('imago.scope', true)) = 'system'"
CLIENT = "(SELECT nullif(current_setting('imago.client', true), '')::bigint)"

HELD = sa.text("status = 'retrying' AND error_code = 'ai-budget-exhausted'")
RESERVED = sa.text("outcome IS NULL")


def upgrade() -> None:
    """Create the tables with their policies, the column and the index."""
    op.create_table(
        "ai_usage",
        sa.Column("client_id", BigId, nullable=False),
        sa.Column("month", sa.String(7), nullable=False),
        *(
            sa.Column(name, sa.BigInteger(), server_default="0", nullable=False)
            for name in ("calls", "input_tokens", "output_tokens", "cost_microusd", "unpriced_calls")
        ),
        _of_client("ai_usage"),
        sa.PrimaryKeyConstraint("client_id", "month", name=op.f("pk_ai_usage")),
    )
    op.create_table(
        "ai_calls",
        sa.Column("id", BigId, autoincrement=True, nullable=False),
        sa.Column("client_id", BigId, nullable=False),
        sa.Column("month", sa.String(7), nullable=False),
        sa.Column("image_id", BigId, nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("input_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("cost_microusd", sa.BigInteger(), nullable=True),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("ended_at", Moment, nullable=True),
        _of_client("ai_calls"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ai_calls")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_ai_calls_client_id_id", "ai_calls", ["client_id", "id"], unique=False)
    op.create_index(op.f("ix_ai_calls_created_at"), "ai_calls", ["created_at"], unique=False)
    op.create_index(
        "ix_ai_calls_reserved", "ai_calls", ["created_at"], postgresql_where=RESERVED, sqlite_where=RESERVED
    )
    op.create_index("ix_image_stages_held", "image_stages", ["client_id"], postgresql_where=HELD, sqlite_where=HELD)
    op.add_column("clients", sa.Column("ai_budget_policy", sa.Text(), nullable=True))
    if op.get_context().dialect.name != "postgresql":
        return
    for table in ("ai_usage", "ai_calls"):
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        condition = f"client_id = {CLIENT} OR {SYSTEM}"
        op.execute(f"CREATE POLICY own ON {table} USING ({condition}) WITH CHECK ({condition})")


def _of_client(table: str) -> sa.ForeignKeyConstraint:
    name = op.f(f"fk_{table}_client_id")
    return sa.ForeignKeyConstraint(["client_id"], ["clients.id"], name=name, ondelete="CASCADE")
