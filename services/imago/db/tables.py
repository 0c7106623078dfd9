"""The tables for SQLAlchemy Core, on PostgreSQL and SQLite; the migrations create them.

`image_search` is not here: it is a `tsvector` table on PostgreSQL and an FTS5 table on SQLite, and only
`imago.core.images.search.full_text` uses it.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}

metadata = sa.MetaData(naming_convention=NAMING)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime: `timestamptz` on PostgreSQL, and on SQLite text in UTC, which sorts chronologically."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert to UTC, and remove the time zone on SQLite; raise ValueError for a naive datetime."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("datetime without a time zone")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return an aware datetime in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], datetime | None] | None:
        """Return None on PostgreSQL, whose driver returns aware datetimes in UTC."""
        return None if dialect.name == "postgresql" else super().result_processor(dialect, coltype)


# On SQLite only INTEGER PRIMARY KEY is an alias of the rowid; AUTOINCREMENT prevents the reuse of deleted ids.
BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Json = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def _id() -> sa.Column[int]:
    return sa.Column("id", BigId, primary_key=True, autoincrement=True)


def _client_id(*, index: bool = False) -> sa.Column[int]:
    return sa.Column("client_id", BigId, sa.ForeignKey("clients.id", ondelete="CASCADE"), nullable=False, index=index)


clients = sa.Table(
    "clients",
    metadata,
    _id(),
    sa.Column("uuid", sa.Uuid, nullable=False, unique=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("plan", sa.Text, nullable=False),
    sa.Column("scopes", Json, nullable=False),
    sa.Column("limits", Json, nullable=False),  # Only those that override the plan.
    sa.Column("lane", sa.Text, nullable=False),
    sa.Column("stages", Json, nullable=False),
    sa.Column("ocr_languages", Json, nullable=False),
    sa.Column("description_language", sa.Text, nullable=False),
    sa.Column("ai_budget_policy", sa.Text),  # None: the server's default.
    sa.Column("weight", sa.Integer, nullable=False, server_default="1"),  # The client's share of a lane.
    sa.Column("concurrency", sa.Integer),  # The most runs of a stage in progress; None: no limit.
    sa.Column("managed_by", sa.Text),
    sa.Column("owner", sa.Text),
    sa.Column("active", sa.Boolean, nullable=False),
    sa.Column("deactivated_at", UtcDateTime),
    sa.Column("erase_requested_at", UtcDateTime),
    sa.Column("erasure", Json),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
    sqlite_autoincrement=True,
)

# Separate from `clients`, so that an upload does not update and lock the row that authentication reads.
client_usage = sa.Table(
    "client_usage",
    metadata,
    sa.Column("client_id", BigId, sa.ForeignKey("clients.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("storage_bytes", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("images", sa.BigInteger, nullable=False, server_default="0"),
)

api_keys = sa.Table(
    "api_keys",
    metadata,
    _id(),
    sa.Column("key_id", sa.String(8), nullable=False, unique=True),
    _client_id(index=True),
    sa.Column("digest", sa.LargeBinary(32), nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("expires_at", UtcDateTime),
    sa.Column("revoked_at", UtcDateTime),
    sa.Column("last_used_at", UtcDateTime),
    sqlite_autoincrement=True,
)

upload_intents = sa.Table(
    "upload_intents",
    metadata,
    _id(),
    _client_id(),
    sa.Column("image_uuid", sa.Uuid, nullable=False, unique=True),
    sa.Column("object_key", sa.Text, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("expires_at", UtcDateTime, nullable=False, index=True),
    sqlite_autoincrement=True,
)

images = sa.Table(
    "images",
    metadata,
    _id(),
    sa.Column("uuid", sa.Uuid, nullable=False, unique=True),
    _client_id(),
    sa.Column("original_name", sa.Text, nullable=False),
    sa.Column("content_type", sa.Text, nullable=False),
    sa.Column("format", sa.Text, nullable=False),
    sa.Column("width", sa.Integer, nullable=False),
    sa.Column("height", sa.Integer, nullable=False),
    sa.Column("frames", sa.Integer, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("duplicate_of", BigId, sa.ForeignKey("images.id", ondelete="SET NULL"), index=True),
    sa.Column("object_key", sa.Text, nullable=False),
    sa.Column("thumbnail_key", sa.Text),
    sa.Column("thumbnail_type", sa.Text),
    sa.Column("thumbnail_bytes", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("started_at", UtcDateTime),
    sa.Column("done_at", UtcDateTime),
    # Copied from the EXIF result for the filters of lists: the camera, case-folded, and its local time.
    sa.Column("camera", sa.Text),
    sa.Column("taken_at", sa.DateTime),
    sa.Column("has_gps", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("moderation_score", sa.Double),
    sa.Column("user_description", sa.Text),
    sa.Column("user_tags", Json),
    sa.Index("ix_images_client_id_id", "client_id", "id"),
    sa.Index("ix_images_client_id_status_id", "client_id", "status", "id"),
    sa.Index("ix_images_client_id_sha256", "client_id", "sha256"),
    sa.Index("ix_images_client_id_taken_at_id", "client_id", "taken_at", "id"),
    sa.Index("ix_images_client_id_size_bytes_id", "client_id", "size_bytes", "id"),
    sa.Index("ix_images_client_id_name_id", "client_id", sa.text("substr(lower(original_name), 1, 64)"), "id"),
    sa.Index("ix_images_done_at", "done_at"),
    sa.Index("ix_images_client_id_camera_id", "client_id", "camera", "id"),
    sa.Index(
        "ix_images_placed",
        "client_id",
        "id",
        postgresql_where=sa.text("has_gps"),
        sqlite_where=sa.text("has_gps"),
    ),
    sqlite_autoincrement=True,
)

_OPEN = sa.text("status IN ('pending', 'running', 'retrying')")
_RUNNING = sa.text("status = 'running'")
_HELD = sa.text("status = 'retrying' AND error_code = 'ai-budget-exhausted'")

# One row per image and stage: the state of its current run. Reprocessing increments `run`, each claim of a worker
# `claim`, and each republication of the run `epoch`. A result is accepted only from the run and claim of this row.
image_stages = sa.Table(
    "image_stages",
    metadata,
    sa.Column("image_id", BigId, sa.ForeignKey("images.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("stage", sa.Text, primary_key=True),
    _client_id(),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("run", sa.Integer, nullable=False),
    sa.Column("claim", sa.Integer, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("lease_until", UtcDateTime),
    sa.Column("due_at", UtcDateTime),
    sa.Column("error_code", sa.Text),
    sa.Column("error_text", sa.Text),
    sa.Column("started_at", UtcDateTime),
    sa.Column("done_at", UtcDateTime),
    sa.Column("lane", sa.Text, nullable=False),
    sa.Column("stream", sa.Text),
    sa.Column("sequence", sa.BigInteger),
    sa.Column("message_id", sa.Text),
    sa.Column("published_at", UtcDateTime),
    sa.Column("priority", sa.Text, nullable=False, server_default="live"),
    # Orders the runs of a client. Until then the run cannot be claimed: it was parked, or its first lease lasts.
    sa.Column("ready_at", UtcDateTime, nullable=False, server_default="1970-01-01 00:00:00.000000"),
    sa.Index("ix_image_stages_client_id_lane", "client_id", "lane"),
    sa.Index(
        "ix_image_stages_ready",
        *("lane", "stage", "client_id", "priority", "ready_at", "image_id"),
        postgresql_where=_OPEN,
        sqlite_where=_OPEN,
    ),
    sa.Index("ix_image_stages_open", "published_at", postgresql_where=_OPEN, sqlite_where=_OPEN),
    sa.Index("ix_image_stages_running", "client_id", "stage", postgresql_where=_RUNNING, sqlite_where=_RUNNING),
    sa.Index("ix_image_stages_stream_sequence", "stream", "sequence"),
    # Stages that wait for an AI budget; usually none.
    sa.Index("ix_image_stages_held", "client_id", postgresql_where=_HELD, sqlite_where=_HELD),
)

# How much of a stage's time in a lane each client has had, divided by its weight: the client with the least is served
# next (docs/fairness.md). A row that is `idle` is left out; `touched_at` is when work of the client was last published.
virtual_times = sa.Table(
    "virtual_times",
    metadata,
    sa.Column("lane", sa.Text, primary_key=True),
    sa.Column("stage", sa.Text, primary_key=True),
    sa.Column("priority", sa.Text, primary_key=True),
    sa.Column("client_id", BigId, sa.ForeignKey("clients.id", ondelete="CASCADE"), primary_key=True, index=True),
    sa.Column("seconds", sa.Double, nullable=False),
    sa.Column("estimate", sa.Double, nullable=False),  # The seconds that the client's next run will probably take.
    sa.Column("idle", sa.Boolean, nullable=False),
    sa.Column("touched_at", UtcDateTime, nullable=False),
    sa.Index(
        "ix_virtual_times_busy",
        *("lane", "stage", "priority"),
        postgresql_where=sa.text("NOT idle"),
        sqlite_where=sa.text("NOT idle"),
    ),
)

# The primary key ensures a single result per run. The results of runs before the last successful one are deleted.
stage_results = sa.Table(
    "stage_results",
    metadata,
    sa.Column("image_id", BigId, sa.ForeignKey("images.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("stage", sa.Text, primary_key=True),
    sa.Column("run", sa.Integer, primary_key=True),
    _client_id(),
    sa.Column("data", Json, nullable=False),
    # The words of a text with their boxes. They are not in `data`, which lists of images read.
    sa.Column("words", sa.Text, nullable=True),
    sa.Column("created_at", UtcDateTime, nullable=False),
)

image_tags = sa.Table(
    "image_tags",
    metadata,
    sa.Column("image_id", BigId, sa.ForeignKey("images.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("tag", sa.Text, primary_key=True),
    _client_id(),
    sa.Index("ix_image_tags_client_id_tag_image_id", "client_id", "tag", "image_id"),
)

# What the offline recognition scored highest in an image, for search by meaning. The concepts are those of
# `imago.core.images.recognition.concepts`; a higher score is more likely, 0 to 1.
image_concepts = sa.Table(
    "image_concepts",
    metadata,
    sa.Column("image_id", BigId, sa.ForeignKey("images.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("concept", sa.SmallInteger, primary_key=True),
    _client_id(),
    sa.Column("score", sa.REAL, nullable=False),
    sa.Index("ix_image_concepts_client_id_concept_image_id", "client_id", "concept", "image_id"),
)

# 128 signed bytes that point in a similar direction for similar images. Only those of the same model are comparable.
image_features = sa.Table(
    "image_features",
    metadata,
    sa.Column("image_id", BigId, sa.ForeignKey("images.id", ondelete="CASCADE"), primary_key=True),
    _client_id(),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("vector", sa.LargeBinary, nullable=False),
    sa.Index("ix_image_features_client_id_image_id", "client_id", "image_id"),
)

# Directions in float16 by an operator's model (`EMBED_MODEL_DIR`). Only those of the same `model` are comparable: it is
# the SHA-256 of all that vectors depend on.
image_embeddings = sa.Table(
    "image_embeddings",
    metadata,
    sa.Column("image_id", BigId, sa.ForeignKey("images.id", ondelete="CASCADE"), primary_key=True),
    _client_id(),
    sa.Column("model", sa.String(64), nullable=False),
    sa.Column("vector", sa.LargeBinary, nullable=False),
    sa.Index("ix_image_embeddings_client_id_model_image_id", "client_id", "model", "image_id"),
)

# The coordinates of images that have some, with the names of their place: folded, each between ` | `.
image_places = sa.Table(
    "image_places",
    metadata,
    sa.Column("image_id", BigId, sa.ForeignKey("images.id", ondelete="CASCADE"), primary_key=True),
    _client_id(),
    sa.Column("latitude", sa.Float(53), nullable=False),
    sa.Column("longitude", sa.Float(53), nullable=False),
    sa.Column("names", sa.Text),
    sa.Column("country", sa.String(2)),
    sa.Index("ix_image_places_client_id_image_id", "client_id", "image_id"),
    sa.Index("ix_image_places_client_id_country_image_id", "client_id", "country", "image_id"),
    sa.Index("ix_image_places_client_id_latitude", "client_id", "latitude"),
)

# One row for each version of search documents: images below the id are to be indexed again.
search_reindexing = sa.Table(
    "search_reindexing",
    metadata,
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("below_id", sa.BigInteger, nullable=False),
)

# The perceptual hashes of images, as signed integers of 64 bits.
image_hashes = sa.Table(
    "image_hashes",
    metadata,
    sa.Column("image_id", BigId, sa.ForeignKey("images.id", ondelete="CASCADE"), primary_key=True),
    _client_id(),
    sa.Column("hash", sa.BigInteger, nullable=False),
    sa.Index("ix_image_hashes_client_id_image_id", "client_id", "image_id"),
)

# Messages to publish. A work row has no subject: its lane is the client's lane at the time of publication.
outbox = sa.Table(
    "outbox",
    metadata,
    _id(),
    _client_id(index=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("subject", sa.Text),
    sa.Column("payload", Json, nullable=False),
    sa.Column("headers", Json, nullable=False),
    sa.Column("message_id", sa.Text, nullable=False),
    sa.Column("image_id", BigId),
    sa.Column("stage", sa.Text),
    sa.Column("run", sa.Integer),
    sa.Column("epoch", sa.Integer),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("due_at", UtcDateTime, nullable=False, index=True),
    sa.Index("ix_outbox_image_id_stage", "image_id", "stage"),
    sqlite_autoincrement=True,
)

# Objects to delete: immediately, and again at `final_at`, because a worker that was processing the image when it was
# deleted may have stored a thumbnail afterwards.
tombstones = sa.Table(
    "tombstones",
    metadata,
    _id(),
    sa.Column("object_key", sa.Text, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("due_at", UtcDateTime, nullable=False, index=True),
    sa.Column("final_at", UtcDateTime, nullable=False),
    sqlite_autoincrement=True,
)

idempotency_keys = sa.Table(
    "idempotency_keys",
    metadata,
    sa.Column("client_id", BigId, sa.ForeignKey("clients.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("key", sa.String(255), primary_key=True),
    sa.Column("token", sa.Uuid, nullable=False),
    sa.Column("lease_until", UtcDateTime),
    sa.Column("fingerprint", sa.String(64)),
    sa.Column("response", Json),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("expires_at", UtcDateTime, nullable=False, index=True),
)

dead_letters = sa.Table(
    "dead_letters",
    metadata,
    _id(),
    _client_id(index=True),
    sa.Column("image_id", BigId, sa.ForeignKey("images.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("stage", sa.Text, nullable=False),
    sa.Column("run", sa.Integer, nullable=False),
    sa.Column("lane", sa.Text, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("error_code", sa.Text, nullable=False),
    sa.Column("error_text", sa.Text, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False, index=True),
    sa.Column("replayed_at", UtcDateTime),
    sa.UniqueConstraint("image_id", "stage", "run"),
    sqlite_autoincrement=True,
)

# Jobs that run stages of many stored images again. `cursor` is the id of the last image that was looked at; results
# that ended at or after `since` are new, and are not made again.
reprocess_jobs = sa.Table(
    "reprocess_jobs",
    metadata,
    _id(),
    sa.Column("uuid", sa.Uuid, nullable=False, unique=True),
    sa.Column("selection", Json, nullable=False),
    sa.Column("images_per_minute", sa.Integer, nullable=False),
    sa.Column("suspended", sa.Boolean, nullable=False),
    sa.Column("since", UtcDateTime, nullable=False),
    sa.Column("cursor", sa.BigInteger, nullable=False),
    sa.Column("up_to", sa.BigInteger, nullable=False),
    *(
        sa.Column(name, sa.BigInteger, nullable=False, server_default="0")
        for name in ("matched", "queued", "done", "failed", "cancelled")
    ),
    sa.Column("next_at", UtcDateTime, nullable=False),
    sa.Column("progress_at", UtcDateTime, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("completed_at", UtcDateTime),
    sqlite_autoincrement=True,
)

# The runs that a job has started and not counted yet. No foreign key to the image, so that the job can count it as
# cancelled if it is deleted.
reprocess_runs = sa.Table(
    "reprocess_runs",
    metadata,
    sa.Column("job_id", BigId, sa.ForeignKey("reprocess_jobs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("image_id", BigId, primary_key=True, autoincrement=False),
    sa.Column("stage", sa.Text, primary_key=True),
    sa.Column("run", sa.Integer, nullable=False),
)

# A client's calls to AI providers per calendar month (UTC); `calls` includes reservations. The cost is in millionths of
# a US dollar, of the calls with a known price.
ai_usage = sa.Table(
    "ai_usage",
    metadata,
    sa.Column("client_id", BigId, sa.ForeignKey("clients.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("month", sa.String(7), primary_key=True),
    sa.Column("calls", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("input_tokens", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("output_tokens", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("cost_microusd", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("unpriced_calls", sa.BigInteger, nullable=False, server_default="0"),
)

# One row per call; `outcome` is null while the call is reserved. No foreign key to the image: a call is billed even if
# its image is deleted.
ai_calls = sa.Table(
    "ai_calls",
    metadata,
    _id(),
    _client_id(),
    sa.Column("month", sa.String(7), nullable=False),
    sa.Column("image_id", BigId),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("provider", sa.Text, nullable=False),
    sa.Column("model", sa.Text),
    sa.Column("outcome", sa.Text),
    sa.Column("input_tokens", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("output_tokens", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("cost_microusd", sa.BigInteger),
    sa.Column("created_at", UtcDateTime, nullable=False, index=True),
    sa.Column("ended_at", UtcDateTime),
    sa.Index("ix_ai_calls_client_id_id", "client_id", "id"),
    sa.Index(
        "ix_ai_calls_reserved",
        "created_at",
        postgresql_where=sa.text("outcome IS NULL"),
        sqlite_where=sa.text("outcome IS NULL"),
    ),
    sqlite_autoincrement=True,
)

# The process that currently runs each periodic task of `imago.maintenance`.
leases = sa.Table(
    "leases",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("until", UtcDateTime, nullable=False),
)

# Administrative actions on clients. No foreign key, so that the log outlives the client.
audit_log = sa.Table(
    "audit_log",
    metadata,
    _id(),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("client_uuid", sa.Uuid),
    sa.Column("request_id", sa.Text),
    sa.Column("details", Json, nullable=False),
    sa.Index("ix_audit_log_client_uuid_id", "client_uuid", "id"),
    sqlite_autoincrement=True,
)

# UNLOGGED on PostgreSQL; see `imago.core.clients.rate_limits`.
rate_limits = sa.Table(
    "rate_limits",
    metadata,
    sa.Column("subject", sa.Text, primary_key=True),
    sa.Column("tat", sa.BigInteger, nullable=False),
)
