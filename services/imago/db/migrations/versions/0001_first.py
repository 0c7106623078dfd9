"""The first schema."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Copied from `imago.db.tables`, because a migration must not change when the code does.
BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Json = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
Moment = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create all tables."""
    op.create_table(
        "clients",
        sa.Column("id", BigId, autoincrement=True, nullable=False),
        sa.Column("uuid", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("plan", sa.Text(), nullable=False),
        sa.Column("scopes", Json, nullable=False),
        sa.Column("limits", Json, nullable=False),
        sa.Column("lane", sa.Text(), nullable=False),
        sa.Column("stages", Json, nullable=False),
        sa.Column("ocr_languages", Json, nullable=False),
        sa.Column("description_language", sa.Text(), nullable=False),
        sa.Column("managed_by", sa.Text(), nullable=True),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("deactivated_at", Moment, nullable=True),
        sa.Column("erase_requested_at", Moment, nullable=True),
        sa.Column("erasure", Json, nullable=True),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("updated_at", Moment, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_clients")),
        sa.UniqueConstraint("uuid", name=op.f("uq_clients_uuid")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("until", Moment, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )
    op.create_table(
        "tombstones",
        sa.Column("id", BigId, autoincrement=True, nullable=False),
        sa.Column("object_key", sa.Text(), nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("due_at", Moment, nullable=False),
        sa.Column("final_at", Moment, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tombstones")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_tombstones_due_at"), "tombstones", ["due_at"], unique=False)
    op.create_table(
        "api_keys",
        sa.Column("id", BigId, autoincrement=True, nullable=False),
        sa.Column("key_id", sa.String(length=8), nullable=False),
        sa.Column("client_id", BigId, nullable=False),
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("expires_at", Moment, nullable=True),
        sa.Column("revoked_at", Moment, nullable=True),
        sa.Column("last_used_at", Moment, nullable=True),
        sa.ForeignKeyConstraint(["client_id"], ["clients.id"], name=op.f("fk_api_keys_client_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("key_id", name=op.f("uq_api_keys_key_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_api_keys_client_id"), "api_keys", ["client_id"], unique=False)
    op.create_table(
        "client_usage",
        sa.Column("client_id", BigId, nullable=False),
        sa.Column("storage_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("images", sa.BigInteger(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(
            ["client_id"], ["clients.id"], name=op.f("fk_client_usage_client_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("client_id", name=op.f("pk_client_usage")),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("client_id", BigId, nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("token", sa.Uuid(), nullable=False),
        sa.Column("lease_until", Moment, nullable=True),
        sa.Column("fingerprint", sa.String(length=64), nullable=True),
        sa.Column("response", Json, nullable=True),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("expires_at", Moment, nullable=False),
        sa.ForeignKeyConstraint(
            ["client_id"], ["clients.id"], name=op.f("fk_idempotency_keys_client_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("client_id", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index(op.f("ix_idempotency_keys_expires_at"), "idempotency_keys", ["expires_at"], unique=False)
    op.create_table(
        "images",
        sa.Column("id", BigId, autoincrement=True, nullable=False),
        sa.Column("uuid", sa.Uuid(), nullable=False),
        sa.Column("client_id", BigId, nullable=False),
        sa.Column("original_name", sa.Text(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("frames", sa.Integer(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("duplicate_of", BigId, nullable=True),
        sa.Column("object_key", sa.Text(), nullable=False),
        sa.Column("thumbnail_key", sa.Text(), nullable=True),
        sa.Column("thumbnail_type", sa.Text(), nullable=True),
        sa.Column("thumbnail_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("started_at", Moment, nullable=True),
        sa.Column("done_at", Moment, nullable=True),
        sa.Column("camera", sa.Text(), nullable=True),
        sa.Column("taken_at", sa.DateTime(), nullable=True),
        sa.Column("has_gps", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("user_description", sa.Text(), nullable=True),
        sa.Column("user_tags", Json, nullable=True),
        sa.ForeignKeyConstraint(["client_id"], ["clients.id"], name=op.f("fk_images_client_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["duplicate_of"], ["images.id"], name=op.f("fk_images_duplicate_of"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_images")),
        sa.UniqueConstraint("uuid", name=op.f("uq_images_uuid")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_images_client_id_id", "images", ["client_id", "id"], unique=False)
    op.create_index("ix_images_client_id_sha256", "images", ["client_id", "sha256"], unique=False)
    op.create_index("ix_images_client_id_status_id", "images", ["client_id", "status", "id"], unique=False)
    op.create_index("ix_images_client_id_taken_at", "images", ["client_id", "taken_at"], unique=False)
    op.create_index(op.f("ix_images_duplicate_of"), "images", ["duplicate_of"], unique=False)
    op.create_table(
        "outbox",
        sa.Column("id", BigId, autoincrement=True, nullable=False),
        sa.Column("client_id", BigId, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=True),
        sa.Column("payload", Json, nullable=False),
        sa.Column("headers", Json, nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("image_id", BigId, nullable=True),
        sa.Column("stage", sa.Text(), nullable=True),
        sa.Column("run", sa.Integer(), nullable=True),
        sa.Column("epoch", sa.Integer(), nullable=True),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("due_at", Moment, nullable=False),
        sa.ForeignKeyConstraint(["client_id"], ["clients.id"], name=op.f("fk_outbox_client_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_outbox_client_id"), "outbox", ["client_id"], unique=False)
    op.create_index(op.f("ix_outbox_due_at"), "outbox", ["due_at"], unique=False)
    op.create_index("ix_outbox_image_id_stage", "outbox", ["image_id", "stage"], unique=False)
    op.create_table(
        "upload_intents",
        sa.Column("id", BigId, autoincrement=True, nullable=False),
        sa.Column("client_id", BigId, nullable=False),
        sa.Column("image_uuid", sa.Uuid(), nullable=False),
        sa.Column("object_key", sa.Text(), nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("expires_at", Moment, nullable=False),
        sa.ForeignKeyConstraint(
            ["client_id"], ["clients.id"], name=op.f("fk_upload_intents_client_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_upload_intents")),
        sa.UniqueConstraint("image_uuid", name=op.f("uq_upload_intents_image_uuid")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_upload_intents_expires_at"), "upload_intents", ["expires_at"], unique=False)
    op.create_table(
        "dead_letters",
        sa.Column("id", BigId, autoincrement=True, nullable=False),
        sa.Column("client_id", BigId, nullable=False),
        sa.Column("image_id", BigId, nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("lane", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("error_code", sa.Text(), nullable=False),
        sa.Column("error_text", sa.Text(), nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("replayed_at", Moment, nullable=True),
        sa.ForeignKeyConstraint(
            ["client_id"], ["clients.id"], name=op.f("fk_dead_letters_client_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name=op.f("fk_dead_letters_image_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dead_letters")),
        sa.UniqueConstraint("image_id", "stage", "run", name=op.f("uq_dead_letters_image_id_stage_run")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_dead_letters_client_id"), "dead_letters", ["client_id"], unique=False)
    op.create_index(op.f("ix_dead_letters_created_at"), "dead_letters", ["created_at"], unique=False)
    op.create_index(op.f("ix_dead_letters_image_id"), "dead_letters", ["image_id"], unique=False)
    op.create_table(
        "image_stages",
        sa.Column("image_id", BigId, nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("client_id", BigId, nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("claim", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("lease_until", Moment, nullable=True),
        sa.Column("due_at", Moment, nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_text", sa.Text(), nullable=True),
        sa.Column("started_at", Moment, nullable=True),
        sa.Column("done_at", Moment, nullable=True),
        sa.Column("lane", sa.Text(), nullable=False),
        sa.Column("stream", sa.Text(), nullable=True),
        sa.Column("sequence", sa.BigInteger(), nullable=True),
        sa.Column("message_id", sa.Text(), nullable=True),
        sa.Column("published_at", Moment, nullable=True),
        sa.ForeignKeyConstraint(
            ["client_id"], ["clients.id"], name=op.f("fk_image_stages_client_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name=op.f("fk_image_stages_image_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("image_id", "stage", name=op.f("pk_image_stages")),
    )
    op.create_index("ix_image_stages_client_id_lane", "image_stages", ["client_id", "lane"], unique=False)
    op.create_index(
        "ix_image_stages_open",
        "image_stages",
        ["published_at"],
        unique=False,
        postgresql_where=sa.text("status IN ('pending', 'running', 'retrying')"),
        sqlite_where=sa.text("status IN ('pending', 'running', 'retrying')"),
    )
    op.create_index("ix_image_stages_stream_sequence", "image_stages", ["stream", "sequence"], unique=False)
    op.create_table(
        "image_tags",
        sa.Column("image_id", BigId, nullable=False),
        sa.Column("tag", sa.Text(), nullable=False),
        sa.Column("client_id", BigId, nullable=False),
        sa.ForeignKeyConstraint(
            ["client_id"], ["clients.id"], name=op.f("fk_image_tags_client_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name=op.f("fk_image_tags_image_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("image_id", "tag", name=op.f("pk_image_tags")),
    )
    op.create_index(
        "ix_image_tags_client_id_tag_image_id", "image_tags", ["client_id", "tag", "image_id"], unique=False
    )
    op.create_table(
        "stage_results",
        sa.Column("image_id", BigId, nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("client_id", BigId, nullable=False),
        sa.Column("data", Json, nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.ForeignKeyConstraint(
            ["client_id"], ["clients.id"], name=op.f("fk_stage_results_client_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["image_id"], ["images.id"], name=op.f("fk_stage_results_image_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("image_id", "stage", "run", name=op.f("pk_stage_results")),
    )
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            "CREATE VIRTUAL TABLE image_search USING fts5"
            " (document, client_id UNINDEXED, image_id UNINDEXED, tokenize = 'unicode61')"
        )
    else:
        op.create_table(
            "image_search",
            sa.Column("image_id", sa.BigInteger(), primary_key=True, autoincrement=False),
            sa.Column("client_id", sa.BigInteger(), nullable=False),
            sa.Column("document", postgresql.TSVECTOR(), nullable=False),
        )
        op.create_index("ix_image_search_document", "image_search", ["document"], postgresql_using="gin")
        op.create_index("ix_image_search_client_id", "image_search", ["client_id"])
