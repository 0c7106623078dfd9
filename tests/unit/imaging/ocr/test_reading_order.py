"""Lines are put in the order in which people read them."""

import time

from imago.core.images.ocr.result import Box, RecognizedWord
from imago.imaging.ocr.reading_order import in_reading_order, joined_rows


def line(left: float, top: float, width: float = 300, height: float = 20) -> Box:
    return left, top, left + width, top + height


def order(boxes: list[Box]) -> list[int]:
    return [index for paragraph in in_reading_order(boxes) for row in paragraph for index in row]


def test_a_column_is_read_from_top_to_bottom() -> None:
    assert order([line(0, 60), line(0, 0), line(0, 30)]) == [1, 2, 0]
    assert order([]) == []


def test_the_left_column_is_read_before_the_right_one() -> None:
    left, right = [line(0, 30 * row) for row in range(6)], [line(350, 30 * row + 7) for row in range(6)]
    mixed = [box for pair in zip(left, right, strict=True) for box in pair]
    assert order(mixed) == [0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9, 11]


def test_a_heading_above_and_a_note_below_the_columns_keep_their_places() -> None:
    columns = [line(x, 60 + 30 * row) for row in range(6) for x in (0, 350)]
    assert order([line(0, 300, 650), *columns, line(0, 0, 650)]) == [13, *range(1, 13, 2), *range(2, 13, 2), 0]


def test_the_rows_of_a_table_are_read_before_its_columns() -> None:
    cells = [line(x, 40 * row, 80) for row in range(5) for x in (0, 300, 600)]
    assert order(cells) == list(range(15))
    assert [len(row) for row in in_reading_order(cells)[0]] == [3] * 5


def test_a_price_is_read_after_its_article() -> None:
    rows = [box for row in range(6) for box in (line(0, 30 * row, 200), line(400, 30 * row + 3, 50))]
    assert order(rows) == list(range(12))


def test_a_gap_divides_paragraphs() -> None:
    boxes = [line(0, 0), line(0, 30), line(0, 90), line(0, 120)]
    assert in_reading_order(boxes) == [[[0], [1]], [[2], [3]]]


def word(text: str, left: float, top: float, width: float = 60) -> RecognizedWord:
    return RecognizedWord(text, 0.9, starts_line=True, box=line(left, top, width))


def test_columns_of_a_table_that_were_read_one_after_the_other_become_rows() -> None:
    cells = [word(f"{column}{row}", 300 * column, 40 * row) for column in range(2) for row in range(4)]
    joined = joined_rows(cells)
    assert [each.text for each in joined] == ["00", "10", "01", "11", "02", "12", "03", "13"]
    assert [each.starts_line for each in joined] == [True, False] * 4


def test_lines_in_order_stay_as_they_are() -> None:
    lines = [word("a", 0, 0, 300), word("b", 0, 30, 300)]
    assert joined_rows(lines) == lines
    assert joined_rows([]) == []


def cells(rows: int, lefts: tuple[float, ...], pitch: float) -> list[Box]:
    """Return long cells of many widths, row by row."""
    widths = (150, 400, 220, 180, 300, 170, 260)
    return [
        line(left, pitch * row, widths[(row * 3 + column * 2) % len(widths)], 24)
        for row in range(rows)
        for column, left in enumerate(lefts)
    ]


def test_long_cells_are_read_by_rows() -> None:
    for table in (cells(14, (0, 530), 31), cells(10, (0, 480, 960), 31), cells(6, (0, 530), 60)):
        assert order(table) == list(range(len(table)))


def test_addresses_side_by_side_are_read_one_after_the_other() -> None:
    heading, left, right = line(0, -120, 900), cells(5, (0,), 31), cells(5, (530,), 31)
    assert order([heading, *right, *left]) == [0, *range(6, 11), *range(1, 6)]


def test_level_lines_of_running_text_are_read_by_columns() -> None:
    column = [line(0, 31 * row, 120 if row % 5 == 4 else 480 - 12 * (row % 4), 24) for row in range(20)]
    other = [(left + 530, top, right + 530, bottom) for left, top, right, bottom in column]
    assert order([*other, *column]) == [*range(20, 40), *range(20)]


def test_a_page_with_thousands_of_cells_is_read_by_rows_in_bounded_time() -> None:
    started = time.process_time()
    table = cells(1000, (0, 530, 1060, 1590), 31)
    assert order(table) == list(range(4000))
    assert time.process_time() - started < 5
