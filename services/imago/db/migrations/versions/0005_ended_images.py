"""An index of images by the time they ended, which the upload-to-done metric reads."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the index."""
    op.create_index("ix_images_done_at", "images", ["done_at"])
