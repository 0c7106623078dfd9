"""The moderation score of images."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the column."""
    op.add_column("images", sa.Column("moderation_score", sa.Double(), nullable=True))
