"""The task of a child process that embeds texts."""

import base64
from functools import cache
from pathlib import Path
from typing import Any

from imago.embedding.model import TEXTUAL, TOKENIZER, EmbeddingModel
from imago.embedding.sessions import open_part, run_part, unusable

EMBED_TEXTS_TASK = "embed_texts"
EMBED_TEXTS_FUNCTION = "imago.embedding.texts:embed_texts"

_INTEGERS = {"tensor(int64)": "int64", "tensor(int32)": "int32"}


def embed_texts(*, texts: list[str], model: dict[str, Any]) -> list[str]:
    """Return the vectors of texts, each float32 in Base64."""
    used = EmbeddingModel.from_arguments(model)
    session = open_part(used.directory / TEXTUAL)
    return [base64.b64encode(_embed(session, text, used).tobytes()).decode() for text in texts]


def _embed(session: Any, text: str, model: EmbeddingModel) -> Any:
    import numpy as np

    config = model.config
    encoded = _tokenizer(model.directory / TOKENIZER, config.context_length, config.pad_id).encode(text)
    inputs: dict[str, Any] = {}
    for each in session.get_inputs():
        if each.type not in _INTEGERS:
            raise unusable(f"{TEXTUAL}: the input {each.name} is not of integers")
        values = encoded.attention_mask if "mask" in each.name else encoded.ids
        inputs[each.name] = np.array([values], dtype=_INTEGERS[each.type])
    return run_part(session, inputs, model=model, name=TEXTUAL)


@cache
def _tokenizer(path: Path, length: int, pad_id: int) -> Any:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:
        raise unusable(f"{TOKENIZER}: {error}") from None
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(length=length, pad_id=pad_id)
    return tokenizer
