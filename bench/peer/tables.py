"""The peer's tables as ORM classes."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, DateTime, ForeignKey, Index, LargeBinary, String, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from bench.peer.settings import DATABASE_URL, POOL_SIZE, POOL_TIMEOUT

Json = JSON().with_variant(JSONB(), "postgresql")


class Base(DeclarativeBase):
    """The base of all tables."""


class Client(Base):
    """A tenant with its limits and usage."""

    __tablename__ = "clients"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    key_digest: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    active: Mapped[bool] = mapped_column(default=True)
    requests_per_minute: Mapped[int]
    storage_limit: Mapped[int] = mapped_column(BigInteger)
    images_limit: Mapped[int] = mapped_column(BigInteger)
    storage_used: Mapped[int] = mapped_column(BigInteger, default=0)
    images_used: Mapped[int] = mapped_column(BigInteger, default=0)


class Image(Base):
    """An image; the stages' results are columns of the same row, so that one read returns everything."""

    __tablename__ = "images"
    __table_args__ = (Index("ix_images_client_id_id", "client_id", "id"), Index("ix_images_sha", "client_id", "sha256"))
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    uuid: Mapped[str] = mapped_column(String(36), unique=True)
    client_id: Mapped[int] = mapped_column(ForeignKey("clients.id"))
    original_name: Mapped[str] = mapped_column(Text)
    content_type: Mapped[str] = mapped_column(Text)
    format: Mapped[str] = mapped_column(Text)
    width: Mapped[int]
    height: Mapped[int]
    frames: Mapped[int]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    duplicate_of: Mapped[int | None] = mapped_column(BigInteger)
    path: Mapped[str] = mapped_column(Text)
    thumbnail_path: Mapped[str] = mapped_column(Text)
    processing_status: Mapped[str] = mapped_column(Text, default="pending")
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=lambda: datetime.now(UTC))
    exif: Mapped[dict[str, Any] | None] = mapped_column(Json)
    ocr: Mapped[dict[str, Any] | None] = mapped_column(Json)
    ai: Mapped[dict[str, Any] | None] = mapped_column(Json)


class Stage(Base):
    """The state of a stage of an image."""

    __tablename__ = "image_stages"
    image_id: Mapped[int] = mapped_column(ForeignKey("images.id"), primary_key=True)
    stage: Mapped[str] = mapped_column(Text, primary_key=True)
    status: Mapped[str] = mapped_column(Text, default="pending")
    attempts: Mapped[int] = mapped_column(default=0)
    error: Mapped[str | None] = mapped_column(Text)
    started_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    done_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


def connect() -> tuple[AsyncEngine, async_sessionmaker]:  # type: ignore[type-arg]
    """Return the engine and the session factory; this opens no connection."""
    engine = create_async_engine(
        DATABASE_URL,
        pool_size=POOL_SIZE,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT,
        connect_args={"server_settings": {"jit": "off"}},
    )
    return engine, async_sessionmaker(engine, expire_on_commit=False)
