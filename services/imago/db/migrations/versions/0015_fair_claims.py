"""Weights and limits of clients, priorities of runs, and the virtual times that decide whose run is claimed next.

The previous release claims the run that a message names. It leaves `priority` and `ready_at` at their defaults, with
which the run is live and waits from the beginning of time.
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Moment = sa.DateTime(timezone=True)

# As in 0002.
SYSTEM = "(SELECT current_setting('imago.scope', true)) = 'system'"
CLIENT = "(SELECT nullif(current_setting('imago.client', true), '')::bigint)"

OPEN = sa.text("status IN ('pending', 'running', 'retrying')")


def upgrade() -> None:
    """Add the columns, the table with its policy and the index of the runs to claim."""
    op.add_column("clients", sa.Column("weight", sa.Integer(), nullable=False, server_default="1"))
    op.add_column("clients", sa.Column("concurrency", sa.Integer(), nullable=True))
    op.add_column("image_stages", sa.Column("priority", sa.Text(), nullable=False, server_default="live"))
    op.add_column(
        "image_stages", sa.Column("ready_at", Moment, nullable=False, server_default="1970-01-01 00:00:00.000000")
    )
    op.create_index(
        "ix_image_stages_ready",
        "image_stages",
        ["lane", "stage", "client_id", "priority", "ready_at", "image_id"],
        postgresql_where=OPEN,
        sqlite_where=OPEN,
    )
    running = sa.text("status = 'running'")
    op.create_index(
        "ix_image_stages_running",
        "image_stages",
        ["client_id", "stage"],
        postgresql_where=running,
        sqlite_where=running,
    )
    _create_virtual_times()
    if op.get_context().dialect.name == "postgresql":
        condition = f"client_id = {CLIENT} OR {SYSTEM}"
        op.execute("ALTER TABLE virtual_times ENABLE ROW LEVEL SECURITY")
        op.execute("ALTER TABLE virtual_times FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY own ON virtual_times USING ({condition}) WITH CHECK ({condition})")
        # Each claim updates a row: with free space on its page, the new version needs no entry in an index.
        op.execute("ALTER TABLE virtual_times SET (fillfactor = 50)")


def _create_virtual_times() -> None:
    op.create_table(
        "virtual_times",
        sa.Column("lane", sa.Text(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("priority", sa.Text(), nullable=False),
        sa.Column("client_id", BigId, nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("estimate", sa.Double(), nullable=False),
        sa.Column("idle", sa.Boolean(), nullable=False),
        sa.Column("touched_at", Moment, nullable=False),
        sa.ForeignKeyConstraint(
            ["client_id"], ["clients.id"], name=op.f("fk_virtual_times_client_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("lane", "stage", "priority", "client_id", name=op.f("pk_virtual_times")),
    )
    op.create_index("ix_virtual_times_client_id", "virtual_times", ["client_id"])
    op.create_index(
        "ix_virtual_times_busy",
        "virtual_times",
        ["lane", "stage", "priority"],
        postgresql_where=sa.text("NOT idle"),
        sqlite_where=sa.text("NOT idle"),
    )
