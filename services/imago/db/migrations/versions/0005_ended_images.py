"""Finding images by when they ended: the upload-to-done metric counts them from the database."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the index."""
    op.create_index("ix_images_done_at", "images", ["done_at"])
