"""Events and results that travel by pointer once they outgrow a ledger item (claim check)."""

import hashlib
from dataclasses import dataclass
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


class Bucket(Protocol):
    """All that payloads ask of S3. ``aws.py`` asks boto3; the tests ask a fake."""

    @property
    def name(self) -> str:
        """The bucket's name."""
        ...

    def put(self, key: str, data: bytes) -> None:
        """Store bytes under a key."""
        ...

    def get(self, bucket: str, key: str) -> bytes | None:
        """Fetch what lies under a key; None when nothing does."""
        ...


def keep(data: bytes, *, name: str, bucket: Bucket) -> Payload:
    """Make a payload of bytes; beyond ``INLINE_BYTES`` they are stored first.

    Args:
        data: Any bytes.
        name: What the bytes are, for example ``<run id>/event``; the key is made of it.
        bucket: Where large ones go.
    """
    if len(data) <= INLINE_BYTES:
        return Inline(data)
    sha256 = hashlib.sha256(data).hexdigest()
    key = f"{KEY_PREFIX}{name}/{sha256}"
    bucket.put(key, data)
    return Stored(bucket.name, key, sha256, len(data))


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
