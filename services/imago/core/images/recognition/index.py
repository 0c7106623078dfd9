"""The stored concepts and features of images."""

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from imago.core.images.recognition.model import Recognition
from imago.db.prepared import PreparedStatement
from imago.db.tables import image_concepts, image_features

_OF_IMAGE: sa.BindParameter[int] = sa.bindparam("of_image")
_DELETE_CONCEPTS = PreparedStatement(sa.delete(image_concepts).where(image_concepts.c.image_id == _OF_IMAGE))
_INSERT_CONCEPT = PreparedStatement(sa.insert(image_concepts), columns=("image_id", "client_id", "concept", "score"))
_DELETE_FEATURES = PreparedStatement(sa.delete(image_features).where(image_features.c.image_id == _OF_IMAGE))
_INSERT_FEATURES = PreparedStatement(sa.insert(image_features), columns=("image_id", "client_id", "model", "vector"))


async def store_recognition(
    connection: AsyncConnection, client_id: int, image_id: int, recognition: Recognition
) -> None:
    """Store what was recognized in an image, replacing what an earlier run recognized. The image must be locked."""
    of_image = {"of_image": image_id}
    owner = {"image_id": image_id, "client_id": client_id}
    await _DELETE_CONCEPTS.execute(connection, of_image)
    await _INSERT_CONCEPT.executemany(
        connection, [{**owner, "concept": each.concept, "score": each.score} for each in recognition.concepts]
    )
    await _DELETE_FEATURES.execute(connection, of_image)
    features = recognition.features
    await _INSERT_FEATURES.execute(connection, {**owner, "model": features.model, "vector": features.vector})
