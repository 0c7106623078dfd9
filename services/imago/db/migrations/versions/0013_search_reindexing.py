"""The progress of indexing images again, which a periodic task does.

Not in the migration, because it takes hours for millions of images; until an image's turn it is found as before.
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "search_reindexing",
        sa.Column("version", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("below_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_search_reindexing")),
    )
