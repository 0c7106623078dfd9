"""The coordinates and places of images, for filters; the coordinates of earlier images come from their EXIF results."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

# As in 0002.
SYSTEM = "(SELECT current_setting('imago.scope', true)) = 'system'"
CLIENT = "(SELECT nullif(current_setting('imago.client', true), '')::bigint)"

# Results are deleted when a later run has one, so there is at most one.
BACKFILL = """
INSERT INTO image_places (image_id, client_id, latitude, longitude)
SELECT images.id, images.client_id, {latitude}, {longitude}
FROM images JOIN stage_results ON stage_results.image_id = images.id AND stage_results.stage = 'exif'
WHERE images.has_gps AND {latitude} IS NOT NULL AND {longitude} IS NOT NULL
ON CONFLICT (image_id) DO NOTHING
"""
NUMBERS = {
    "postgresql": "CAST(stage_results.data -> 'gps' ->> '{}' AS double precision)",
    "sqlite": "json_extract(stage_results.data, '$.gps.{}')",
}


def upgrade() -> None:
    """Create the table with its policy, and fill it."""
    op.create_table(
        "image_places",
        sa.Column("image_id", BigId, nullable=False),
        sa.Column("client_id", BigId, nullable=False),
        sa.Column("latitude", sa.Float(53), nullable=False),
        sa.Column("longitude", sa.Float(53), nullable=False),
        sa.Column("names", sa.Text(), nullable=True),
        sa.Column("country", sa.String(2), nullable=True),
        *(
            sa.ForeignKeyConstraint(
                [f"{of}_id"], [f"{of}s.id"], name=op.f(f"fk_image_places_{of}_id"), ondelete="CASCADE"
            )
            for of in ("image", "client")
        ),
        sa.PrimaryKeyConstraint("image_id", name=op.f("pk_image_places")),
    )
    for columns in (["client_id", "image_id"], ["client_id", "country", "image_id"], ["client_id", "latitude"]):
        op.create_index(f"ix_image_places_{'_'.join(columns)}", "image_places", columns)
    dialect = op.get_context().dialect.name
    if dialect == "postgresql":
        op.execute("ALTER TABLE image_places ENABLE ROW LEVEL SECURITY")
        op.execute("ALTER TABLE image_places FORCE ROW LEVEL SECURITY")
        condition = f"client_id = {CLIENT} OR {SYSTEM}"
        op.execute(f"CREATE POLICY own ON image_places USING ({condition}) WITH CHECK ({condition})")
    latitude, longitude = (NUMBERS[dialect].format(name) for name in ("latitude", "longitude"))
    op.execute(BACKFILL.format(latitude=latitude, longitude=longitude))
