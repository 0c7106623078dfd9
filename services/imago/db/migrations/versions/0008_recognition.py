"""Concepts and features that the offline recognition finds in images."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

# As in 0002.
SYSTEM = "(SELECT current_setting('imago.scope', true)) = 'system'"
CLIENT = "(SELECT nullif(current_setting('imago.client', true), '')::bigint)"


def upgrade() -> None:
    """Create the tables with their policies."""
    op.create_table(
        "image_concepts",
        sa.Column("image_id", BigId, nullable=False),
        sa.Column("concept", sa.SmallInteger(), nullable=False),
        sa.Column("client_id", BigId, nullable=False),
        sa.Column("score", sa.REAL(), nullable=False),
        *_references("image_concepts"),
        sa.PrimaryKeyConstraint("image_id", "concept", name=op.f("pk_image_concepts")),
    )
    op.create_index(
        "ix_image_concepts_client_id_concept_image_id", "image_concepts", ["client_id", "concept", "image_id"]
    )
    op.create_table(
        "image_features",
        sa.Column("image_id", BigId, nullable=False),
        sa.Column("client_id", BigId, nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        *_references("image_features"),
        sa.PrimaryKeyConstraint("image_id", name=op.f("pk_image_features")),
    )
    op.create_index("ix_image_features_client_id_image_id", "image_features", ["client_id", "image_id"])
    if op.get_context().dialect.name != "postgresql":
        return
    for table in ("image_concepts", "image_features"):
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        condition = f"client_id = {CLIENT} OR {SYSTEM}"
        op.execute(f"CREATE POLICY own ON {table} USING ({condition}) WITH CHECK ({condition})")


def _references(table: str) -> tuple[sa.ForeignKeyConstraint, sa.ForeignKeyConstraint]:
    return (
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name=op.f(f"fk_{table}_image_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["client_id"], ["clients.id"], name=op.f(f"fk_{table}_client_id"), ondelete="CASCADE"),
    )
