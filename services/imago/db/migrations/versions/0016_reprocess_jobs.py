"""Reprocess jobs and the runs that they wait for."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Json = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
Moment = sa.DateTime(timezone=True)

# As in 0002.
SYSTEM = "(SELECT current_setting('imago.scope', true)) = 'system'"

COUNTS = ("matched", "queued", "done", "failed", "cancelled")


def upgrade() -> None:
    """Create the tables with their policies: no client may see them."""
    op.create_table(
        "reprocess_jobs",
        sa.Column("id", BigId, autoincrement=True, nullable=False),
        sa.Column("uuid", sa.Uuid(), nullable=False),
        sa.Column("selection", Json, nullable=False),
        sa.Column("images_per_minute", sa.Integer(), nullable=False),
        sa.Column("suspended", sa.Boolean(), nullable=False),
        sa.Column("since", Moment, nullable=False),
        sa.Column("cursor", sa.BigInteger(), nullable=False),
        sa.Column("up_to", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), server_default="0", nullable=False) for name in COUNTS),
        sa.Column("next_at", Moment, nullable=False),
        sa.Column("progress_at", Moment, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("completed_at", Moment, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reprocess_jobs")),
        sa.UniqueConstraint("uuid", name=op.f("uq_reprocess_jobs_uuid")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "reprocess_runs",
        sa.Column("job_id", BigId, nullable=False),
        sa.Column("image_id", BigId, nullable=False, autoincrement=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"], ["reprocess_jobs.id"], name=op.f("fk_reprocess_runs_job_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", "image_id", "stage", name=op.f("pk_reprocess_runs")),
    )
    if op.get_context().dialect.name != "postgresql":
        return
    for table in ("reprocess_jobs", "reprocess_runs"):
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY own ON {table} USING ({SYSTEM}) WITH CHECK ({SYSTEM})")
