import pytest

from colbert_mcp.duplicates import near_duplicates

BEES = "Hives are inspected every seventh day in May, because a queen cell is capped on the ninth day after laying."
TIDE = "The lock keeper opens the gate two hours before high water, and closes it when the stream begins to turn again."
ZH = "蜂箱在五月每七天检查一次因为王台在产卵后第九天封盖所以不能再等"


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([BEES, TIDE, BEES.replace("May", "June")], [None, None, 0]),
        ([BEES, BEES + " " + TIDE], [None, 0]),
        ([BEES, BEES.upper().replace(",", ";")], [None, 0]),
        ([ZH, ZH.replace("五月", "六月"), TIDE], [None, 0, None]),
        (["Yes.", "Yes.", "See the table below."], [None, None, None]),
        ([], []),
    ],
)
def test_a_text_that_repeats_most_of_an_earlier_one_is_found(texts: list[str], expected: list[int | None]) -> None:
    assert near_duplicates(texts) == expected


def test_texts_on_one_subject_in_other_words_are_no_duplicates() -> None:
    again = "In May the hives want a look each week: nine days after laying, the cell of a new queen is closed."
    assert near_duplicates([BEES, again]) == [None, None]


def test_a_chain_of_changes_ends_where_little_of_the_original_is_left() -> None:
    words = [f"word{number}" for number in range(200)]
    versions = [" ".join(words[start : start + 100]) for start in (0, 20, 40)]
    assert near_duplicates(versions) == [None, 0, None]
    assert near_duplicates(versions[1:]) == [None, 0]


def test_the_original_is_named_and_not_another_copy() -> None:
    copies = [BEES, BEES.replace("seventh", "sixth"), BEES.replace("ninth", "tenth")]
    assert near_duplicates(copies) == [None, 0, 0]
