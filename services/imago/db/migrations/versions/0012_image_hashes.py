"""The perceptual hashes of images."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

# As in 0002.
SYSTEM = "(SELECT current_setting('imago.scope', true)) = 'system'"
CLIENT = "(SELECT nullif(current_setting('imago.client', true), '')::bigint)"


def upgrade() -> None:
    """Create the table with its policy."""
    op.create_table(
        "image_hashes",
        sa.Column("image_id", BigId, nullable=False),
        sa.Column("client_id", BigId, nullable=False),
        sa.Column("hash", sa.BigInteger(), nullable=False),
        *(
            sa.ForeignKeyConstraint(
                [f"{of}_id"], [f"{of}s.id"], name=op.f(f"fk_image_hashes_{of}_id"), ondelete="CASCADE"
            )
            for of in ("image", "client")
        ),
        sa.PrimaryKeyConstraint("image_id", name=op.f("pk_image_hashes")),
    )
    op.create_index("ix_image_hashes_client_id_image_id", "image_hashes", ["client_id", "image_id"])
    if op.get_context().dialect.name == "postgresql":
        op.execute("ALTER TABLE image_hashes ENABLE ROW LEVEL SECURITY")
        op.execute("ALTER TABLE image_hashes FORCE ROW LEVEL SECURITY")
        condition = f"client_id = {CLIENT} OR {SYSTEM}"
        op.execute(f"CREATE POLICY own ON image_hashes USING ({condition}) WITH CHECK ({condition})")
