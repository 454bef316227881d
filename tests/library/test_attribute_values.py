from typing import Any

import pytest
from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from hypothesis import given
from hypothesis import strategies as st

from immortal_lambda.attribute_values import marshal, unmarshal

PLAIN = st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.text() | st.binary()
VALUES = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4))


@given(item=st.dictionaries(st.text(), VALUES, max_size=5))
def test_items_are_written_as_boto3_writes_them_and_come_back(item: dict[str, Any]) -> None:
    written = marshal(item)
    assert written == {name: TypeSerializer().serialize(value) for name, value in item.items()}
    assert unmarshal(written) == item


@pytest.mark.parametrize(
    "value", [{"SS": ["a", "b"]}, {"NS": ["1", "2"]}, {"BS": [b"a"]}, {"N": "1E2"}], ids=lambda value: next(iter(value))
)
def test_what_others_wrote_is_read_as_boto3_reads_it(value: dict[str, Any]) -> None:
    expected: Any = TypeDeserializer().deserialize(value)  # type: ignore[arg-type]
    assert unmarshal({"x": value}) == {"x": expected}


def test_a_value_that_the_ledger_does_not_hold_is_an_error() -> None:
    with pytest.raises(TypeError, match="the ledger holds no float"):
        marshal({"x": 1.5})
