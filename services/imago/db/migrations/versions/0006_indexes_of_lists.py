"""Indexes for lists by camera, by place, and by a word that most images contain.

They follow the order of the pages (newest first), so that a page reads about as many rows as it returns. The index of
`image_search` by client is a prefix of the new one.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the indexes."""
    op.create_index("ix_images_client_id_camera_id", "images", ["client_id", "camera", "id"])
    op.create_index(
        "ix_images_placed",
        "images",
        ["client_id", "id"],
        postgresql_where=sa.text("has_gps"),
        sqlite_where=sa.text("has_gps"),
    )
    if op.get_context().dialect.name == "postgresql":
        op.create_index("ix_image_search_client_id_image_id", "image_search", ["client_id", "image_id"])
        op.drop_index("ix_image_search_client_id", "image_search")
