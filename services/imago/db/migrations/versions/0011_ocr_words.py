"""The words of texts with their boxes, in a column of the results, whose row policy covers it.

The previous release inserts results without the column and never reads it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column, which takes no time: it is null in all rows."""
    op.add_column("stage_results", sa.Column("words", sa.Text(), nullable=True))


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("stage_results", "words")
