"""Request rates across replicas."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table: UNLOGGED and with free space in its pages, because every request updates a row."""
    op.create_table(
        "rate_limits",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("tat", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("subject", name=op.f("pk_rate_limits")),
        prefixes=["UNLOGGED"] if op.get_context().dialect.name == "postgresql" else [],
    )
    if op.get_context().dialect.name == "postgresql":
        op.execute(
            "ALTER TABLE rate_limits SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0,"
            " autovacuum_vacuum_threshold = 10000)"
        )
