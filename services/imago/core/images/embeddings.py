"""The stored embeddings of images."""

from collections.abc import Sequence
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from imago.db.prepared import PreparedStatement
from imago.db.tables import image_embeddings


class StoredEmbedding(NamedTuple):
    """A row: `model` is the fingerprint of the model, `vector` a direction in float16."""

    image_id: int
    client_id: int
    model: str
    vector: bytes


_DELETE = PreparedStatement(sa.delete(image_embeddings).where(image_embeddings.c.image_id == sa.bindparam("of_image")))
_INSERT = PreparedStatement(sa.insert(image_embeddings), columns=StoredEmbedding._fields)


async def store_embeddings(connection: AsyncConnection, embeddings: Sequence[StoredEmbedding]) -> None:
    """Store the embeddings of images, replacing those of earlier runs. The images must be locked."""
    await _DELETE.executemany(connection, [{"of_image": each.image_id} for each in embeddings])
    await _INSERT.executemany(connection, [each._asdict() for each in embeddings])
