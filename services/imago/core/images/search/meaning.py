"""Search by meaning: images whose recognized concepts are those that a query is about.

An image's score is the sum of its concepts' scores times their weights in the query, in whole numbers, so that both
databases agree on it and a cursor can name it.
"""

from collections.abc import Sequence

import sqlalchemy as sa

from imago.core.images.lists.filters import ImageFilter, all_conditions
from imago.core.images.search.full_text import matching_ids
from imago.core.images.search.query_meaning import WeightedConcept
from imago.db.tables import image_concepts, image_embeddings, images

# The concept that a query is most about has the weight 1000; a score of 1 counts as 1000, too. Fewer than this means
# that the recognition is nearly certain of none of the concepts: docs/adr/0012 has the measurement.
MIN_SCORE = 200_000
_SCORE_UNIT = 1000


def ids_by_meaning(
    dialect: str,
    client_id: int,
    filters: ImageFilter,
    concepts: Sequence[WeightedConcept],
    *,
    limit: int,
    after: tuple[int, int] | None,
    without_model: str | None = None,
) -> sa.Select[tuple[int, int]]:
    """Return the query for `id` and `score` of a client's images, the highest score first, behind `after`.

    Images that have the words of the query are left out, and those with an embedding of `without_model`.
    """
    weight = sa.case(
        *((image_concepts.c.concept == each.concept, each.weight) for each in concepts),
        else_=0,
    )
    points = sa.cast(sa.func.round(image_concepts.c.score * _SCORE_UNIT), sa.BigInteger)
    score = sa.cast(sa.func.sum(points * weight), sa.BigInteger)
    scored = (
        sa.select(image_concepts.c.image_id.label("id"), score.label("score"))
        .where(
            image_concepts.c.client_id == client_id, image_concepts.c.concept.in_([each.concept for each in concepts])
        )
        .group_by(image_concepts.c.image_id)
        .having(score >= MIN_SCORE)
        .subquery("scored")
    )
    query = sa.select(scored.c.id, scored.c.score)
    conditions = all_conditions(client_id, filters)
    if conditions:
        query = query.join(images, images.c.id == scored.c.id).where(images.c.client_id == client_id, *conditions)
    by_words = matching_ids(dialect, client_id, filters.q or "")
    if by_words is not None:
        query = query.where(scored.c.id.not_in(by_words))
    if without_model is not None:
        query = query.where(scored.c.id.not_in(_embedded_ids(client_id, without_model)))
    if after is not None:
        below, image_id = after
        query = query.where(sa.or_(scored.c.score < below, sa.and_(scored.c.score == below, scored.c.id < image_id)))
    return query.order_by(scored.c.score.desc(), scored.c.id.desc()).limit(limit)


def _embedded_ids(client_id: int, model: str) -> sa.Select[tuple[int]]:
    return sa.select(image_embeddings.c.image_id).where(
        image_embeddings.c.client_id == client_id, image_embeddings.c.model == model
    )
