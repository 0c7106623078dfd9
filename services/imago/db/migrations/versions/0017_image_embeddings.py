"""The embeddings of images by an operator's model."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

# As in 0002.
SYSTEM = "(SELECT current_setting('imago.scope', true)) = 'system'"
CLIENT = "(SELECT nullif(current_setting('imago.client', true), '')::bigint)"


def upgrade() -> None:
    """Create the table with its policy."""
    op.create_table(
        "image_embeddings",
        sa.Column("image_id", BigId, nullable=False),
        sa.Column("client_id", BigId, nullable=False),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        *(
            sa.ForeignKeyConstraint(
                [f"{of}_id"], [f"{of}s.id"], name=op.f(f"fk_image_embeddings_{of}_id"), ondelete="CASCADE"
            )
            for of in ("image", "client")
        ),
        sa.PrimaryKeyConstraint("image_id", name=op.f("pk_image_embeddings")),
    )
    op.create_index(
        "ix_image_embeddings_client_id_model_image_id", "image_embeddings", ["client_id", "model", "image_id"]
    )
    if op.get_context().dialect.name == "postgresql":
        op.execute("ALTER TABLE image_embeddings ENABLE ROW LEVEL SECURITY")
        op.execute("ALTER TABLE image_embeddings FORCE ROW LEVEL SECURITY")
        condition = f"client_id = {CLIENT} OR {SYSTEM}"
        op.execute(f"CREATE POLICY own ON image_embeddings USING ({condition}) WITH CHECK ({condition})")
