from dataclasses import dataclass, field
from io import BufferedReader, BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from immortal_lambda.payloads import INLINE_BYTES, Inline, PayloadLost, Stored, fetch, keep


@dataclass
class Shelf:
    """A bucket in memory."""

    name: str = "shelf"
    objects: dict[str, bytes] = field(default_factory=dict)

    def put(self, key: str, data: bytes) -> None:
        self.objects[key] = data

    def upload(self, key: str, source: BufferedReader) -> None:
        self.objects[key] = source.read()

    def get(self, bucket: str, key: str) -> bytes | None:
        assert bucket == self.name
        return self.objects.get(key)


@given(size=st.sampled_from([0, 1, INLINE_BYTES - 1, INLINE_BYTES, INLINE_BYTES + 1, 3 * INLINE_BYTES]))
def test_what_is_kept_is_fetched(size: int) -> None:
    shelf, data = Shelf(), bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    payload = keep(data, name="run/event", bucket=shelf)
    assert fetch(payload, shelf) == data
    assert isinstance(payload, Inline) == (size <= INLINE_BYTES)


def test_the_same_bytes_are_stored_once() -> None:
    shelf, data = Shelf(), b"x" * (INLINE_BYTES + 1)
    assert keep(data, name="run/event", bucket=shelf) == keep(data, name="run/event", bucket=shelf)
    assert len(shelf.objects) == 1


def test_lost_and_changed_bytes_are_told_apart() -> None:
    shelf = Shelf()
    payload = keep(b"x" * (INLINE_BYTES + 1), name="run/event", bucket=shelf)
    assert isinstance(payload, Stored)
    shelf.objects[payload.key] = b"y"
    with pytest.raises(PayloadLost, match="other bytes"):
        fetch(payload, shelf)
    del shelf.objects[payload.key]
    with pytest.raises(PayloadLost, match="is gone"):
        fetch(payload, shelf)


@dataclass
class Pages:
    """Bytes that can be opened and are not to be held."""

    data: bytes

    @property
    def size_bytes(self) -> int:
        return len(self.data)

    def open(self) -> BufferedReader:
        return BufferedReader(BytesIO(self.data))


@given(size=st.sampled_from([0, INLINE_BYTES, INLINE_BYTES + 1, 3 * INLINE_BYTES]))
def test_what_can_be_opened_is_kept_as_its_bytes_would_be(size: int) -> None:
    opened, held, data = Shelf(), Shelf(), b"x" * size
    assert keep(Pages(data), name="run/result", bucket=opened) == keep(data, name="run/result", bucket=held)
    assert opened.objects == held.objects
