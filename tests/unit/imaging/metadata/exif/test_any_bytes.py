"""No value of any tag fails a stage, and what is returned can be stored: a broken value costs only itself."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from imago.ai.offline.vision.descriptions import describe
from imago.core.images.recognition.model import Features, Recognition
from imago.core.images.results import ExifResult
from imago.core.images.vision import VisionInput
from imago.core.jobs.stage_outcomes import MAX_CAMERA, result_columns
from imago.imaging.metadata.exif import parse
from imago.imaging.metadata.exif.tags import Tag
from tests.support.exif_blocks import Value, exif

KINDS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 129: 1, 200: 1}
DIGITS = "0123456789٠١٢٣٤٥٦٧٨٩०१२๐๑๒０１２೧𝟙²Ⅷ"

texts = st.one_of(
    st.binary(max_size=64),
    st.text(max_size=32).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.text(alphabet=DIGITS + ":-/. +T", max_size=32).map(str.encode),
    st.from_regex(r"[0-9]{4}:[0-9]{2}:[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}[.+][0-9]{0,8}", fullmatch=True).map(
        str.encode
    ),
)
NOTHING = Recognition("offline/test", (), (), 0.0, (), Features("test", bytes(128)))


@st.composite
def values(draw: st.DrawFn) -> Value:
    kind = draw(st.sampled_from(sorted(KINDS)))
    data = draw(texts)
    return Value(kind, len(data) // KINDS[kind], data)


def check(result: ExifResult) -> None:
    """Fail unless the result can be stored in PostgreSQL as JSON and used by the vision stage."""
    stored = json.dumps(result.to_json(), allow_nan=False, ensure_ascii=False)
    stored.encode("utf-8")
    assert "\\u0000" not in stored
    assert ExifResult.from_json(json.loads(stored)) == result
    assert result.camera.iso is None or 0 < result.camera.iso < 2**31
    columns = result_columns(result, thumbnail_key=None)
    assert len(str(columns["camera"] or "").encode()) <= 4 * MAX_CAMERA
    for language in ("fr", "en"):
        describe(NOTHING, VisionInput(b"", 3, 2, result, language))


@settings(max_examples=500, derandomize=True, deadline=None)
@given(
    st.dictionaries(st.sampled_from([int(tag) for tag in Tag]), values(), max_size=6),
    st.dictionaries(st.sampled_from([int(tag) for tag in Tag]), values(), max_size=6),
    st.dictionaries(st.integers(0, 31), values(), max_size=6),
)
def test_any_bytes_in_any_tag_give_a_result_that_can_be_stored(
    main: dict[int, Value], own: dict[int, Value], gps: dict[int, Value]
) -> None:
    check(parse(exif(main, own, gps)))


def test_a_camera_name_that_unicode_folds_to_many_letters_fits_the_index() -> None:
    long = "\ufdfa".encode() * 256
    result = parse(exif({0x010F: Value(2, len(long), long), 0x0110: Value(2, len(long), long)}))
    assert result.camera.make
    check(result)
