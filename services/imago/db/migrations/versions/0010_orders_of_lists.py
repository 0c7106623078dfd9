"""Indexes for the orders of lists. That of the time when images were taken is a prefix of its new one."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the indexes."""
    op.create_index("ix_images_client_id_taken_at_id", "images", ["client_id", "taken_at", "id"])
    op.create_index("ix_images_client_id_size_bytes_id", "images", ["client_id", "size_bytes", "id"])
    name = sa.text("substr(lower(original_name), 1, 64)")
    op.create_index("ix_images_client_id_name_id", "images", ["client_id", name, "id"])
    op.drop_index("ix_images_client_id_taken_at", "images")
