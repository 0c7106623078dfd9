"""Which concepts a query is about.

The query's vector is compared with those of all anchors. Cosines of this model lie between 0.8 and 1, so a softmax with
a low temperature makes weights of them. A query is about nothing if the background is as near as the nearest anchor:
docs/adr/0012 has the measurements behind the constants.
"""

from typing import Any

from imago.ai.offline.meaning.anchors import Anchors
from imago.ai.offline.meaning.vectors import Vectors

# Of cosines. Two anchors that differ by this much have weights in the ratio of 1 to 2.7.
_TEMPERATURE = 0.015
_MAX_ANCHORS = 20
_MAX_CONCEPTS = 20

# How much nearer than all of the background the nearest anchor must be.
_MARGIN = 0.024
# As near as a name in its other number, or with an article: certain, whatever the background has.
_CERTAIN = 0.94

FULL_WEIGHT = 1000
"""The weight of the concept that a query is most about; a weight below 1 is none."""


def query_concepts(query: Any, anchors: Anchors, vectors: Vectors) -> list[tuple[int, int]]:
    """Return the concepts of a query's vector with their weights, up to `FULL_WEIGHT`; empty if it is about none."""
    import numpy as np

    cosines = vectors.anchors @ query
    best = float(cosines.max())
    if best < _CERTAIN and best - float((vectors.background @ query).max()) < _MARGIN:
        return []
    weights: dict[int, float] = {}
    for index in np.argsort(-cosines)[:_MAX_ANCHORS]:
        weight = float(np.exp((cosines[index] - best) / _TEMPERATURE))
        for concept in anchors.concepts[int(index)]:
            weights[concept] = weights.get(concept, 0.0) + weight
    highest = max(weights.values())
    ranked = sorted(weights.items(), key=lambda item: (-item[1], item[0]))[:_MAX_CONCEPTS]
    scaled = [(concept, round(weight / highest * FULL_WEIGHT)) for concept, weight in ranked]
    return [(concept, weight) for concept, weight in scaled if weight >= 1]
