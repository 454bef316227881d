"""Events and results that travel by pointer once they outgrow a ledger item (claim check)."""

import hashlib
from dataclasses import dataclass
from io import BufferedReader
from typing import Protocol

from immortal_lambda.errors import ImmortalError

INLINE_BYTES = 16 * 1024
"""Up to here a payload lies in the ledger's item itself: each heartbeat writes, and pays for, the whole item."""

KEY_PREFIX = "runs/"
"""Under it lies all that the bucket forgets after a while; what lies elsewhere, such as code, stays."""


class PayloadLost(ImmortalError):
    """The stored bytes are gone or are not those that were stored. A human must find out why."""


@dataclass(frozen=True, slots=True)
class Inline:
    """A payload small enough to lie in the ledger."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Stored:
    """A payload in S3, with all that tells whether it is still the same.

    Attributes:
        key: Object key; it holds the hash, so that storing the same bytes twice changes nothing.
        sha256: 64 hex characters.
        size_bytes: Length of the data.
    """

    bucket: str
    key: str
    sha256: str
    size_bytes: int


Payload = Inline | Stored


class Readable(Protocol):
    """Bytes too many to hold in memory, that can be read more than once."""

    @property
    def size_bytes(self) -> int:
        """How many they are."""
        ...

    def open(self) -> BufferedReader:
        """A new reader, at their beginning."""
        ...


class Bucket(Protocol):
    """All that payloads ask of S3. ``aws.py`` asks boto3; the tests ask a fake."""

    @property
    def name(self) -> str:
        """The bucket's name."""
        ...

    def put(self, key: str, data: bytes) -> None:
        """Store bytes under a key."""
        ...

    def upload(self, key: str, source: BufferedReader) -> None:
        """Store what a reader gives under a key, piece by piece."""
        ...

    def get(self, bucket: str, key: str) -> bytes | None:
        """Fetch what lies under a key; None when nothing does."""
        ...


def keep(data: bytes | Readable, *, name: str, bucket: Bucket) -> Payload:
    """Make a payload of bytes; beyond ``INLINE_BYTES`` they are stored first.

    Args:
        data: Any bytes; those that can be opened are never held in memory whole.
        name: What the bytes are, for example ``<run id>/event``; the key is made of it.
        bucket: Where large ones go.
    """
    if isinstance(data, bytes):
        return _keep_bytes(data, name, bucket)
    if data.size_bytes <= INLINE_BYTES:
        with data.open() as reader:
            return Inline(reader.read())
    with data.open() as reader:
        sha256 = hashlib.file_digest(reader, "sha256").hexdigest()
    key = _key(name, sha256)
    with data.open() as reader:
        bucket.upload(key, reader)
    return Stored(bucket.name, key, sha256, data.size_bytes)


def _keep_bytes(data: bytes, name: str, bucket: Bucket) -> Payload:
    if len(data) <= INLINE_BYTES:
        return Inline(data)
    sha256 = hashlib.sha256(data).hexdigest()
    key = _key(name, sha256)
    bucket.put(key, data)
    return Stored(bucket.name, key, sha256, len(data))


def _key(name: str, sha256: str) -> str:
    return f"{KEY_PREFIX}{name}/{sha256}"


def fetch(payload: Payload, bucket: Bucket) -> bytes:
    """Give a payload's bytes.

    Raises:
        PayloadLost: The object is gone, or its hash differs from the one on record.
    """
    if isinstance(payload, Inline):
        return payload.data
    data = bucket.get(payload.bucket, payload.key)
    if data is None:
        raise PayloadLost(f"s3://{payload.bucket}/{payload.key} is gone; {payload.size_bytes} bytes were stored there")
    if hashlib.sha256(data).hexdigest() != payload.sha256:
        raise PayloadLost(f"s3://{payload.bucket}/{payload.key} holds other bytes than were stored there")
    return data
