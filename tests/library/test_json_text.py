import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from immortal_lambda import json_text

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=20,
)


@given(before=st.dictionaries(st.text(), values), value=values, indent=st.none() | st.integers(0, 3))
def test_a_member_is_cut_out_as_it_was_written(before: dict[str, object], value: object, indent: int | None) -> None:
    text = json.dumps({**before, "payload": value}, indent=indent)
    cut = json_text.member(text, "payload")
    assert cut in text
    assert json.loads(cut) == value


@pytest.mark.parametrize("spelling", ["1.10", "1e400", "123456789012345678901234567890", '"\\u00e9"', '{"b":1, "a":2}'])
def test_the_spelling_of_a_member_survives(spelling: str) -> None:
    assert json_text.member(f'{{"payload" : {spelling} }}', "payload") == spelling


def test_of_several_members_with_one_name_the_last_counts() -> None:
    assert json_text.member('{"a":1,"a":2}', "a") == "2"


def test_a_missing_member_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        json_text.member('{"a":1}', "b")


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "1" * 5000], ids=["empty", "cut", "deep", "long number"])
def test_what_cannot_be_read_is_said_to_be_no_json(text: str) -> None:
    with pytest.raises(json_text.NotJson):
        json_text.parse(text)
